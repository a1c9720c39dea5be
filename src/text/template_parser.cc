// Expressions of chat templates, and what the parser is made of.
#include "text/template_parser.h"

namespace fettle::jinja {

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

}  // namespace fettle::jinja
