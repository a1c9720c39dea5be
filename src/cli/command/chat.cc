// chat: a conversation in the terminal. The engine's prefix cache holds what was said, so a turn costs only its own tokens.
#include <unistd.h>

#include "cli/model_use.h"

namespace fettle {
namespace {

struct Arguments {
  std::string model, draft, system;
  int max_tokens = 1024;
  Sampling sampling;
  EngineOptions engine;
};

const char* const kHelp =
    "  /reset    forget the conversation\n"
    "  /undo     forget the last question and answer\n"
    "  /system TEXT   set the system message and start anew\n"
    "  /quit     end (Ctrl-D too); Ctrl-C stops an answer";

class Chat {
 public:
  Chat(const Arguments& a, const Common& common) : arguments_(a), common_(common), model_(open_model(a.model, common.stage)) {
    if (!model_->chat_template)
      throw refused(a.model, "has no chat template, so it cannot chat", "`fettle run --raw` continues plain text");
    EngineOptions options = a.engine;
    options.parallel = 1;
    options.draft = open_draft(a.draft, common.stage);
    engine_ = make_engine(model_, options, common.stage);
    reset(a.system);
  }

  Json talk_until_end() {
    const bool person = ::isatty(STDIN_FILENO);
    if (person) say("chatting with " + model_title(arguments_.model) + "; /help lists the commands");
    std::string line;
    while (read_line(person, line)) {
      if (trim(line).empty()) continue;
      if (line[0] == '/') {
        if (!command(line)) break;
      } else {
        turn(line);
      }
    }
    return {{"model", arguments_.model},
            {"turns", turns_},
            {"messages", history()},
            {"tokens", tokens_},
            {"tokens_per_s", seconds_ > 0 ? double(tokens_) / seconds_ : 0}};
  }

 private:
  // False at the end of input, and when Ctrl-C was pressed at the prompt.
  bool read_line(bool person, std::string& line) {
    if (person) {
      std::fputs("> ", stderr);
      std::fflush(stderr);
    }
    line.clear();
    for (int c; (c = std::getchar()) != EOF && c != '\n';) line += char(c);
    if (interrupted() || (line.empty() && std::feof(stdin))) return false;
    return !std::ferror(stdin);
  }

  // A line that begins with a slash; false: end.
  bool command(const std::string& line) {
    std::string word = line.substr(0, line.find(' ')), rest = line.size() > word.size() ? line.substr(word.size() + 1) : "";
    if (word == "/quit" || word == "/exit" || word == "/bye") return false;
    if (word == "/reset")
      reset(arguments_.system);
    else if (word == "/system")
      reset(rest);
    else if (word == "/undo")
      messages_.resize(messages_.size() > 2 || (messages_.size() == 2 && messages_[0].role == "user") ? messages_.size() - 2
                                                                                                      : messages_.size());
    else if (word == "/help")
      say(kHelp);
    else {
      auto near = did_you_mean(word, {"/quit", "/reset", "/system", "/undo", "/help"});
      say("there is no " + word + (near ? "; did you mean " + *near + "?" : "; /help lists the commands"));
    }
    return true;
  }

  void reset(const std::string& system) {
    messages_.clear();
    if (!system.empty()) messages_.push_back({"system", system});
  }

  void turn(const std::string& question) {
    messages_.push_back({"user", question});
    Request request;
    request.prompt = model_->chat_format().prompt(messages_);
    request.sampling = arguments_.sampling;
    request.sampling.seed = common_.stage.seed + uint64_t(turns_);
    request.max_tokens = arguments_.max_tokens;
    Answered got;
    try {
      got = answer(*engine_, std::move(request), [&](const std::string& piece) {
        if (common_.json) return;
        std::fwrite(piece.data(), 1, piece.size(), stdout);
        std::fflush(stdout);
      });
    } catch (const Error& error) {  // a conversation too long for the context: it can go on after /reset
      messages_.pop_back();
      if (error.code != Exit::refused || !::isatty(STDIN_FILENO)) throw;
      warn(error.text());
      hint("/reset forgets the conversation, /undo its last turn");
      return;
    }
    if (!common_.json) std::puts("");
    if (got.finish == Finish::cancelled) forget_interrupt();
    messages_.push_back({"assistant", got.text});
    turns_++;
    tokens_ += int64_t(got.ids.size());
    seconds_ += got.seconds;
    if (::isatty(STDIN_FILENO))
      say(std::to_string(got.ids.size()) + " tokens, " + format_count(got.tokens_per_s()) + " tokens/s, first after " +
          format_seconds(got.first_token_seconds) +
          (got.finish == Finish::length      ? ", cut (--max-tokens)"
           : got.finish == Finish::cancelled ? ", stopped"
                                             : ""));
  }

  Json history() const { return conversation({messages_})["messages"]; }

  const Arguments& arguments_;
  const Common& common_;
  std::shared_ptr<Model> model_;
  std::unique_ptr<Engine> engine_;
  std::vector<Message> messages_;
  int turns_ = 0;
  int64_t tokens_ = 0;
  double seconds_ = 0;
};

std::function<Json()> setup(Options& o, Common& common) {
  auto a = std::make_shared<Arguments>();
  a->sampling.temperature = 0.7f;
  a->sampling.top_p = 0.95f;
  add_model(o, a->model);
  o.add("--system", a->system, "a system message");
  o.add("--max-tokens", a->max_tokens, "most tokens of an answer");
  add_sampling(o, a->sampling);
  add_engine(o, a->engine, a->draft);
  return [a, &common] { return Chat(*a, common).talk_until_end(); };
}

}  // namespace

const Command command_chat = {"chat",
                              "Use",
                              "a conversation in the terminal",
                              "fettle chat smollm2-135m-instruct\n"
                              "fettle chat tickets --temperature 0 --system \"You answer for a shop.\"",
                              setup,
                              nullptr};

}  // namespace fettle
