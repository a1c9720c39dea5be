// The parser of chat templates: recursive descent over the tokens, in Jinja2's order of precedence. Expressions are in template_parser.cc,
// statements in template_statements.cc. Everything that Jinja2 has and fettle has not is refused here, with its line: include, import,
// extends, block, autoescape, unknown filters, tests and tags.
#pragma once
#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/template_lexer.h"
#include "text/template_program.h"

namespace fettle::jinja {

inline constexpr int kMaxNesting = 150;  // brackets and blocks within each other
inline constexpr int kMaxTree = 400;     // operations upon each other: a + a + a ...

class Parser {
 public:
  Parser(std::string_view source, std::string place) : tokens_(lex(source, place)) { program_.place = std::move(place); }
  Program run();

 private:
  struct Deeper {
    explicit Deeper(Parser& parser) : parser(parser) {
      if (++parser.nesting_ > kMaxNesting) parser.fail("nested too deeply");
    }
    ~Deeper() { --parser.nesting_; }
    Parser& parser;
  };
  using Ends = std::vector<std::string_view>;

  const Token& now() const { return tokens_[at_]; }
  const Token& following() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  const Token& take() { return at_ + 1 < tokens_.size() ? tokens_[at_++] : tokens_[at_]; }
  [[noreturn]] void fail(const std::string& what, int line = 0) const { fail_at(program_.place, line > 0 ? line : now().line, what); }
  bool is_op(std::string_view op) const { return now().kind == Tok::op && now().text == op; }
  bool is_name(std::string_view name) const { return now().kind == Tok::name && now().text == name; }
  bool skip_op(std::string_view op) { return is_op(op) && (take(), true); }
  bool skip_name(std::string_view name) { return is_name(name) && (take(), true); }
  void expect_op(std::string_view op);
  void expect(Tok kind, const char* what);
  std::string describe(const Token& token) const;
  const std::string* intern(const std::string& name) { return &*program_.names.insert(name).first; }
  const std::string* expect_name();

  ExprPtr make(Op op, int line, std::vector<ExprPtr> items = {});
  void measure(Expr& expr) const;
  ExprPtr constant(Value value, int line);
  ExprPtr expression();  // with inline if
  ExprPtr either();
  ExprPtr both();
  ExprPtr negation();
  ExprPtr comparison();
  ExprPtr sum();
  ExprPtr concatenation();
  ExprPtr product();
  ExprPtr power();
  ExprPtr unary(bool with_filters);
  ExprPtr primary();
  ExprPtr text_constant();
  ExprPtr list_of(std::string_view close, Op op);
  ExprPtr dict();
  ExprPtr postfix(ExprPtr expr);
  ExprPtr filters_and_tests(ExprPtr expr);
  ExprPtr subscript(ExprPtr expr);
  ExprPtr call(ExprPtr callee);
  ExprPtr filters(ExprPtr value, bool bar_taken);
  ExprPtr test(ExprPtr value);
  void arguments(Expr& call);
  ExprPtr tuple(bool with_condition, bool parentheses, std::string_view end = {});

  Target target(bool with_namespace, std::string_view end = {});
  Target target_part(bool with_namespace);
  Body body(const Ends& ends, const std::string& tag, int line);
  Body statements(const Ends& ends, const std::string& tag, int line);
  std::unique_ptr<Stmt> statement();
  void branch(Stmt& stmt);
  void loop(Stmt& stmt);
  void set(Stmt& stmt);
  void with(Stmt& stmt);
  void macro(Stmt& stmt);
  void call_block(Stmt& stmt);
  void signature(Macro& macro);
  void macro_body(Macro& macro, std::string_view end, const std::string& tag, int line);

  Program program_;
  std::vector<Token> tokens_;
  size_t at_ = 0;
  int nesting_ = 0;
  int loops_ = 0;  // around the current statement, within its macro
  bool saw_varargs_ = false, saw_kwargs_ = false, saw_caller_ = false;
};

}  // namespace fettle::jinja
