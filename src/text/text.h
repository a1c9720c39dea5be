// Room text: tokenizers, chat templates and data sets.
#pragma once
#include "text/chat_template.h"
#include "text/dataset.h"
#include "text/tokenizer.h"
