// The parser: recursive descent over the tokens, in Jinja2's order of precedence. Everything that Jinja2 has and fettle has not is refused
// here, with its line: include, import, extends, block, autoescape, unknown filters, tests and tags.
#include <algorithm>

#include "text/template_lexer.h"
#include "text/template_program.h"

namespace fettle::jinja {
namespace {

constexpr int kMaxNesting = 150;  // brackets and blocks within each other
constexpr int kMaxTree = 400;     // operations upon each other: a + a + a ...

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

std::string Parser::describe(const Token& token) const {
  switch (token.kind) {
    case Tok::data:
      return "text";
    case Tok::print_begin:
      return "'{{'";
    case Tok::print_end:
      return "'}}'";
    case Tok::tag_begin:
      return "'{%'";
    case Tok::tag_end:
      return "'%}'";
    case Tok::end:
      return "the end of the template";
    case Tok::whole:
    case Tok::real:
      return "a number";
    case Tok::text:
      return "a text";
    default:
      return "'" + token.text.substr(0, 60) + "'";
  }
}

void Parser::expect_op(std::string_view op) {
  if (!skip_op(op)) fail("expected '" + std::string(op) + "', not " + describe(now()));
}

void Parser::expect(Tok kind, const char* what) {
  if (now().kind != kind) fail(std::string("expected ") + what + ", not " + describe(now()));
  take();
}

const std::string* Parser::expect_name() {
  if (now().kind != Tok::name) fail("expected a name, not " + describe(now()));
  return intern(take().text);
}

void Parser::measure(Expr& expr) const {
  int deepest = 0;
  for (const auto& item : expr.items) deepest = std::max(deepest, item ? item->depth : 0);
  for (const auto& [name, item] : expr.named) deepest = std::max(deepest, item->depth);
  for (const ExprPtr* item : {&expr.star, &expr.double_star}) deepest = std::max(deepest, *item ? (*item)->depth : 0);
  expr.depth = deepest + 1;
  if (expr.depth > kMaxTree) fail("an expression of too many parts", expr.line);
}

ExprPtr Parser::make(Op op, int line, std::vector<ExprPtr> items) {
  auto expr = std::make_unique<Expr>();
  expr->op = op;
  expr->line = line;
  expr->items = std::move(items);
  measure(*expr);
  return expr;
}

template <class... T>
std::vector<ExprPtr> exprs(T... items) {
  std::vector<ExprPtr> list;
  (list.push_back(std::move(items)), ...);
  return list;
}

ExprPtr Parser::constant(Value value, int line) {
  ExprPtr expr = make(Op::constant, line);
  expr->value = std::move(value);
  return expr;
}

// ---- expressions ----

ExprPtr Parser::expression() {
  const Deeper deeper(*this);
  const int line = now().line;
  ExprPtr value = either();
  while (skip_name("if")) {
    ExprPtr condition = either();
    ExprPtr otherwise = skip_name("else") ? expression() : nullptr;
    value = make(Op::condition, line, exprs(std::move(condition), std::move(value), std::move(otherwise)));
  }
  return value;
}

ExprPtr Parser::either() {
  const int line = now().line;
  ExprPtr left = both();
  while (skip_name("or")) left = make(Op::either, line, exprs(std::move(left), both()));
  return left;
}

ExprPtr Parser::both() {
  const int line = now().line;
  ExprPtr left = negation();
  while (skip_name("and")) left = make(Op::both, line, exprs(std::move(left), negation()));
  return left;
}

ExprPtr Parser::negation() {
  const Deeper deeper(*this);
  const int line = now().line;
  if (skip_name("not")) return make(Op::negated, line, exprs(negation()));
  return comparison();
}

ExprPtr Parser::comparison() {
  constexpr std::pair<std::string_view, Comparison> kOps[] = {{"==", Comparison::equal},  {"!=", Comparison::unequal},
                                                              {"<", Comparison::less},    {"<=", Comparison::less_equal},
                                                              {">", Comparison::greater}, {">=", Comparison::greater_equal}};
  const int line = now().line;
  std::vector<ExprPtr> items = exprs(sum());
  std::vector<Comparison> comparisons;
  for (;;) {
    const auto* op = std::find_if(std::begin(kOps), std::end(kOps), [&](const auto& pair) { return is_op(pair.first); });
    if (op != std::end(kOps)) {
      comparisons.push_back(op->second);
    } else if (is_name("in")) {
      comparisons.push_back(Comparison::in);
    } else if (is_name("not") && following().kind == Tok::name && following().text == "in") {
      take();
      comparisons.push_back(Comparison::not_in);
    } else {
      break;
    }
    take();
    items.push_back(sum());
  }
  if (comparisons.empty()) return std::move(items[0]);
  ExprPtr expr = make(Op::compare, line, std::move(items));
  expr->comparisons = std::move(comparisons);
  return expr;
}

ExprPtr Parser::sum() {
  const int line = now().line;
  ExprPtr left = concatenation();
  while (is_op("+") || is_op("-")) {
    const Op op = take().text == "+" ? Op::add : Op::subtract;
    left = make(op, line, exprs(std::move(left), concatenation()));
  }
  return left;
}

ExprPtr Parser::concatenation() {
  const int line = now().line;
  std::vector<ExprPtr> items = exprs(product());
  while (skip_op("~")) items.push_back(product());
  return items.size() == 1 ? std::move(items[0]) : make(Op::concatenate, line, std::move(items));
}

ExprPtr Parser::product() {
  const int line = now().line;
  ExprPtr left = power();
  while (is_op("*") || is_op("/") || is_op("//") || is_op("%")) {
    const std::string& op = take().text;
    const Op kind = op == "*" ? Op::multiply : op == "/" ? Op::divide : op == "//" ? Op::floor_divide : Op::modulo;
    left = make(kind, line, exprs(std::move(left), power()));
  }
  return left;
}

ExprPtr Parser::power() {
  const int line = now().line;
  ExprPtr left = unary(true);
  while (skip_op("**")) left = make(Op::power, line, exprs(std::move(left), unary(true)));
  return left;
}

ExprPtr Parser::unary(bool with_filters) {
  const Deeper deeper(*this);
  const int line = now().line;
  ExprPtr expr;
  if (skip_op("-")) {
    expr = make(Op::negative, line, exprs(unary(false)));
  } else if (skip_op("+")) {
    expr = make(Op::positive, line, exprs(unary(false)));
  } else {
    expr = primary();
  }
  expr = postfix(std::move(expr));
  return with_filters ? filters_and_tests(std::move(expr)) : std::move(expr);
}

ExprPtr Parser::text_constant() {
  const int line = now().line;
  std::string text;
  while (now().kind == Tok::text) text += take().text;
  return constant(std::make_shared<const Text>(Marked(std::move(text))), line);
}

ExprPtr Parser::primary() {
  const Token& token = now();
  if (token.kind == Tok::text) return text_constant();
  if (token.kind == Tok::whole || token.kind == Tok::real) {
    take();
    return constant(token.kind == Tok::whole ? Value(token.whole) : Value(token.real), token.line);
  }
  if (token.kind == Tok::name) {
    take();
    if (token.text == "true" || token.text == "True") return constant(true, token.line);
    if (token.text == "false" || token.text == "False") return constant(false, token.line);
    if (token.text == "none" || token.text == "None") return constant(None{}, token.line);
    saw_varargs_ |= token.text == "varargs";
    saw_kwargs_ |= token.text == "kwargs";
    saw_caller_ |= token.text == "caller";
    ExprPtr expr = make(Op::name, token.line);
    expr->name = intern(token.text);
    return expr;
  }
  if (skip_op("(")) {
    ExprPtr expr = tuple(true, true);
    expect_op(")");
    return expr;
  }
  if (skip_op("[")) return list_of("]", Op::list);
  if (skip_op("{")) return dict();
  fail("expected an expression, not " + describe(token));
}

// Behind the opening bracket.
ExprPtr Parser::list_of(std::string_view close, Op op) {
  const int line = now().line;
  std::vector<ExprPtr> items;
  while (!is_op(close)) {
    items.push_back(expression());
    if (!is_op(close)) expect_op(",");
  }
  take();
  return make(op, line, std::move(items));
}

ExprPtr Parser::dict() {
  const int line = now().line;
  std::vector<ExprPtr> items;
  while (!is_op("}")) {
    items.push_back(expression());
    expect_op(":");
    items.push_back(expression());
    if (!is_op("}")) expect_op(",");
  }
  take();
  return make(Op::dict, line, std::move(items));
}

// "a" or "a, b": a tuple needs a comma or empty parentheses.
ExprPtr Parser::tuple(bool with_condition, bool parentheses, std::string_view end) {
  const int line = now().line;
  const auto at_end = [&] {
    return now().kind == Tok::print_end || now().kind == Tok::tag_end || is_op(")") || (!end.empty() && is_name(end));
  };
  std::vector<ExprPtr> items;
  bool is_tuple = false;
  while (!at_end()) {
    items.push_back(with_condition ? expression() : either());
    if (!skip_op(",")) break;
    is_tuple = true;
  }
  if (!is_tuple && items.size() == 1) return std::move(items[0]);
  if (!is_tuple && !parentheses) fail("expected an expression, not " + describe(now()));
  return make(Op::tuple, line, std::move(items));
}

ExprPtr Parser::postfix(ExprPtr expr) {
  for (;;) {
    if (is_op(".") || is_op("[")) {
      expr = subscript(std::move(expr));
    } else if (is_op("(")) {
      expr = call(std::move(expr));
    } else {
      return expr;
    }
  }
}

ExprPtr Parser::filters_and_tests(ExprPtr expr) {
  for (;;) {
    if (skip_op("|")) {
      expr = filters(std::move(expr), true);
    } else if (skip_name("is")) {
      expr = test(std::move(expr));
    } else if (is_op("(")) {
      expr = call(std::move(expr));
    } else {
      return expr;
    }
  }
}

ExprPtr Parser::subscript(ExprPtr expr) {
  const int line = now().line;
  if (take().text == ".") {
    const Token& key = take();
    if (key.kind == Tok::whole) return make(Op::item, line, exprs(std::move(expr), constant(key.whole, line)));
    if (key.kind != Tok::name) fail("expected a name or a number behind '.', not " + describe(key), key.line);
    ExprPtr attribute = make(Op::attribute, line, exprs(std::move(expr)));
    attribute->name = intern(key.text);
    return attribute;
  }
  if (is_op("]")) fail("expected a key between '[' and ']'");
  ExprPtr parts[3];
  if (!is_op(":")) parts[0] = expression();
  if (!is_op(":")) {
    if (is_op(",")) {
      std::vector<ExprPtr> keys = exprs(std::move(parts[0]));
      while (skip_op(",")) {
        if (!is_op("]")) keys.push_back(expression());
      }
      parts[0] = make(Op::tuple, line, std::move(keys));
    }
    expect_op("]");
    return make(Op::item, line, exprs(std::move(expr), std::move(parts[0])));
  }
  for (int i = 1; i < 3 && skip_op(":"); ++i) {
    if (!is_op(":") && !is_op("]")) parts[i] = expression();
  }
  expect_op("]");
  return make(Op::slice, line, exprs(std::move(expr), std::move(parts[0]), std::move(parts[1]), std::move(parts[2])));
}

void Parser::arguments(Expr& call) {
  const Deeper deeper(*this);
  expect_op("(");
  while (!is_op(")")) {
    if (skip_op("**")) {
      if (call.double_star) fail("only one ** argument is possible");
      call.double_star = expression();
    } else if (call.double_star) {
      fail("an argument behind **");
    } else if (skip_op("*")) {
      if (call.star) fail("only one * argument is possible");
      call.star = expression();
    } else if (now().kind == Tok::name && following().kind == Tok::op && following().text == "=") {
      const std::string* name = intern(take().text);
      take();
      const auto same = [&](const auto& pair) { return pair.first == name; };
      if (std::any_of(call.named.begin(), call.named.end(), same)) fail("argument '" + *name + "' is given twice");
      call.named.emplace_back(name, expression());
    } else {
      if (call.star || !call.named.empty()) fail("an argument without a name behind one with a name");
      call.items.push_back(expression());
    }
    if (!is_op(")")) expect_op(",");
  }
  take();
  measure(call);
}

ExprPtr Parser::call(ExprPtr callee) {
  ExprPtr expr = make(Op::call, now().line, exprs(std::move(callee)));
  arguments(*expr);
  return expr;
}

// One filter or several; the first bar is taken already, or missing as in "{% filter upper %}".
ExprPtr Parser::filters(ExprPtr value, bool bar_taken) {
  for (; bar_taken; bar_taken = skip_op("|")) {
    ExprPtr expr = make(Op::filter, now().line, exprs(std::move(value)));
    std::string name = *expect_name();
    while (skip_op(".")) name += "." + *expect_name();
    expr->filter = find_filter(name);
    if (expr->filter == nullptr) fail("unknown filter '" + name + "'", expr->line);
    if (is_op("(")) arguments(*expr);
    value = std::move(expr);
  }
  return value;
}

ExprPtr Parser::test(ExprPtr value) {
  const int line = now().line;
  const bool negated = skip_name("not");
  ExprPtr expr = make(Op::test, line, exprs(std::move(value)));
  std::string name = *expect_name();
  while (skip_op(".")) name += "." + *expect_name();
  expr->test = find_test(name);
  if (expr->test == nullptr) fail("unknown test '" + name + "'", line);
  const bool starts_value =
      now().kind == Tok::name || now().kind == Tok::text || now().kind == Tok::whole || now().kind == Tok::real || is_op("[") || is_op("{");
  if (is_op("(")) {
    arguments(*expr);
  } else if (starts_value && !is_name("else") && !is_name("or") && !is_name("and")) {
    if (is_name("is")) fail("tests cannot be chained with 'is'");
    expr->items.push_back(postfix(primary()));
    measure(*expr);
  }
  return negated ? make(Op::negated, line, exprs(std::move(expr))) : std::move(expr);
}

// ---- statements ----

Target Parser::target_part(bool with_namespace) {
  const Deeper deeper(*this);
  Target part;
  if (skip_op("(")) {
    part = target(with_namespace);
    expect_op(")");
    return part;
  }
  const Token& token = now();
  part.name = expect_name();
  for (const char* word : {"true", "false", "none", "True", "False", "None"}) {
    if (token.text == word) fail("cannot assign to '" + token.text + "'", token.line);
  }
  if (with_namespace && skip_op(".")) part.attribute = expect_name();
  return part;
}

Target Parser::target(bool with_namespace, std::string_view end) {
  Target first = target_part(with_namespace);
  if (!is_op(",")) return first;
  Target all;
  all.is_tuple = true;
  all.parts.push_back(std::move(first));
  while (skip_op(",")) {
    if (is_op("=") || is_op(")") || (!end.empty() && is_name(end))) break;
    all.parts.push_back(target_part(with_namespace));
  }
  return all;
}

// The inside of a tag's block: from behind its "%}" up to one of `ends`, which stays the current token.
Body Parser::statements(const Ends& ends, const std::string& tag, int line) {
  skip_op(":");
  expect(Tok::tag_end, "'%}'");
  return body(ends, tag, line);
}

Body Parser::body(const Ends& ends, const std::string& tag, int line) {
  const Deeper deeper(*this);
  Body body;
  for (;;) {
    const Token& token = now();
    if (token.kind == Tok::end) {
      if (ends.empty()) return body;
      fail("'{% " + tag + " %}' is not closed with '{% " + std::string(ends.back()) + " %}'", line);
    }
    auto stmt = std::make_unique<Stmt>();
    stmt->line = token.line;
    if (token.kind == Tok::data) {
      stmt->text = take().text;
    } else if (token.kind == Tok::print_begin) {
      take();
      stmt->tag = Tag::print;
      stmt->expr = tuple(true, false);
      expect(Tok::print_end, "'}}'");
    } else {
      expect(Tok::tag_begin, "a tag");
      if (now().kind == Tok::name && std::find(ends.begin(), ends.end(), now().text) != ends.end()) return body;
      stmt = statement();
      expect(Tok::tag_end, "'%}'");
    }
    body.push_back(std::move(stmt));
  }
}

std::unique_ptr<Stmt> Parser::statement() {
  auto stmt = std::make_unique<Stmt>();
  stmt->line = now().line;
  if (now().kind != Tok::name) fail("expected the name of a tag, not " + describe(now()));
  const std::string& tag = take().text;
  if (tag == "if") {
    branch(*stmt);
  } else if (tag == "for") {
    loop(*stmt);
  } else if (tag == "set") {
    set(*stmt);
  } else if (tag == "macro") {
    macro(*stmt);
  } else if (tag == "call") {
    call_block(*stmt);
  } else if (tag == "with") {
    with(*stmt);
  } else if (tag == "print") {
    stmt->tag = Tag::print;
    stmt->expr = tuple(true, false);
  } else if (tag == "filter") {
    stmt->tag = Tag::filter;
    stmt->expr = filters(nullptr, true);
    stmt->body = statements({"endfilter"}, tag, stmt->line);
    take();
  } else if (tag == "generation") {
    stmt->tag = Tag::generation;
    stmt->body = statements({"endgeneration"}, tag, stmt->line);
    take();
  } else if (tag == "break" || tag == "continue") {
    if (loops_ == 0) fail("'" + tag + "' outside of a loop");
    stmt->tag = tag == "break" ? Tag::stop : Tag::next;
  } else {
    const bool end = tag.starts_with("end") || tag == "else" || tag == "elif";
    fail(end ? "'" + tag + "' without its beginning" : "unknown or unsupported tag '" + tag + "'", stmt->line);
  }
  return stmt;
}

void Parser::branch(Stmt& stmt) {
  stmt.tag = Tag::branch;
  for (bool more = true; more;) {
    ExprPtr condition = tuple(false, false);
    Body inside = statements({"elif", "else", "endif"}, "if", stmt.line);
    stmt.branches.emplace_back(std::move(condition), std::move(inside));
    const std::string& end = take().text;
    more = end == "elif";
    if (end == "else") {
      stmt.otherwise = statements({"endif"}, "if", stmt.line);
      take();
    }
  }
}

void Parser::loop(Stmt& stmt) {
  stmt.tag = Tag::loop;
  stmt.target = target(false, "in");
  if (!skip_name("in")) fail("expected 'in', not " + describe(now()));
  stmt.expr = tuple(false, false, "recursive");
  if (skip_name("if")) stmt.condition = expression();
  stmt.recursive = skip_name("recursive");
  ++loops_;
  stmt.body = statements({"else", "endfor"}, "for", stmt.line);
  --loops_;
  if (take().text == "else") {
    stmt.otherwise = statements({"endfor"}, "for", stmt.line);
    take();
  }
}

void Parser::set(Stmt& stmt) {
  stmt.target = target(true);
  if (skip_op("=")) {
    stmt.tag = Tag::set;
    stmt.expr = tuple(true, false);
    return;
  }
  stmt.tag = Tag::set_block;
  if (skip_op("|")) stmt.expr = filters(nullptr, true);
  stmt.body = statements({"endset"}, "set", stmt.line);
  take();
}

void Parser::with(Stmt& stmt) {
  stmt.tag = Tag::with;
  while (now().kind == Tok::name || is_op("(")) {
    Target name = target_part(false);
    expect_op("=");
    stmt.assignments.emplace_back(std::move(name), expression());
    if (!skip_op(",")) break;
  }
  stmt.body = statements({"endwith"}, "with", stmt.line);
  take();
}

void Parser::signature(Macro& macro) {
  expect_op("(");
  while (!is_op(")")) {
    const std::string* name = expect_name();
    for (const auto& [other, value] : macro.parameters) {
      if (other == name) fail("parameter '" + *name + "' is named twice");
    }
    ExprPtr value = skip_op("=") ? expression() : nullptr;
    if (!value && !macro.parameters.empty() && macro.parameters.back().second)
      fail("a parameter without a default behind one with a default");
    macro.parameters.emplace_back(name, std::move(value));
    if (!is_op(")")) expect_op(",");
  }
  take();
}

void Parser::macro_body(Macro& macro, std::string_view end, const std::string& tag, int line) {
  const int loops = std::exchange(loops_, 0);
  const bool saw[] = {saw_varargs_, saw_kwargs_, saw_caller_};
  saw_varargs_ = saw_kwargs_ = saw_caller_ = false;
  macro.body = statements({end}, tag, line);
  take();
  macro.takes_more = saw_varargs_;
  macro.takes_named = saw_kwargs_;
  macro.takes_caller = saw_caller_;
  saw_varargs_ = saw[0];
  saw_kwargs_ = saw[1];
  saw_caller_ = saw[2];
  loops_ = loops;
}

void Parser::macro(Stmt& stmt) {
  stmt.tag = Tag::macro;
  stmt.macro.name = expect_name();
  signature(stmt.macro);
  macro_body(stmt.macro, "endmacro", "macro", stmt.line);
}

void Parser::call_block(Stmt& stmt) {
  stmt.tag = Tag::call;
  stmt.macro.name = intern("caller");
  if (is_op("(")) signature(stmt.macro);
  stmt.expr = expression();
  if (stmt.expr->op != Op::call) fail("'{% call %}' needs a call", stmt.line);
  macro_body(stmt.macro, "endcall", "call", stmt.line);
}

Program Parser::run() {
  program_.body = body({}, "", 1);
  return std::move(program_);
}

}  // namespace

Program parse(std::string_view source, std::string place) { return Parser(source, std::move(place)).run(); }

}  // namespace fettle::jinja
