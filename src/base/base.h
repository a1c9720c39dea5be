// Room base: what every other room stands on. This is its only public header; the parts are separate for reading.
#pragma once
#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/pool.h"
#include "base/progress.h"
#include "base/random.h"
#include "base/units.h"
#include "base/utf8.h"
