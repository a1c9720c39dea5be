// Statements of chat templates: what stands between {% and %}, and the blocks that they open.
#include <utility>

#include "text/template_parser.h"

namespace fettle::jinja {

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
    std::vector<ExprPtr> parts;
    do parts.push_back(expression());
    while (skip_op(","));
    stmt->expr = make(Op::concatenate, stmt->line, std::move(parts));
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

Program parse(std::string_view source, std::string place) { return Parser(source, std::move(place)).run(); }

}  // namespace fettle::jinja
