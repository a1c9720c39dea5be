// The template engine against Jinja2 (tests/golden/make_template_golden.py), against hostile templates, and what it remembers of who wrote
// what.
#include "text/chat_template.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/base.h"

namespace fettle {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

const ordered_json& golden() {
  static const ordered_json document = [] {
    std::ifstream file(std::string(FETTLE_SOURCE_DIR) + "/tests/golden/template_golden.json");
    EXPECT_TRUE(file.good());
    return ordered_json::parse(file);
  }();
  return document;
}

TemplateInput input_of(const ordered_json& messages, const ordered_json* tools, const ordered_json* extra, bool prompt) {
  TemplateInput input;
  input.messages = &messages;
  input.tools = tools;
  input.extra = extra;
  input.add_generation_prompt = prompt;
  input.bos_token = "<s>";
  input.eos_token = "</s>";
  input.now_seconds = golden()["now"].get<int64_t>();
  return input;
}

// The text, or nullopt when the template is refused, in parsing or in rendering.
std::optional<std::string> rendered(const std::string& source, const TemplateInput& input) {
  try {
    return ChatTemplate(source, "t.jinja").render(input);
  } catch (const Error& error) {
    EXPECT_EQ(error.code, Exit::refused);
    EXPECT_TRUE(error.place.starts_with("t.jinja")) << error.text();
    EXPECT_STRNE(error.what(), "");
    return std::nullopt;
  }
}

std::string render(const std::string& source, const ordered_json& messages = ordered_json::array()) {
  return ChatTemplate(source, "t.jinja").render(input_of(messages, nullptr, nullptr, false));
}

TEST(ChatTemplate, OurOwnTemplatesGiveJinjasText) {
  ASSERT_GE(golden()["own"].size(), 150u);
  for (const auto& entry : golden()["own"]) {
    const auto& inputs = entry["inputs"];
    for (size_t i = 0; i < inputs.size(); ++i) {
      const auto& messages = golden()["conversations"][inputs[i].get<std::string>()];
      const auto text = rendered(entry["source"].get<std::string>(), input_of(messages, nullptr, nullptr, true));
      const auto& expected = entry["texts"][i];
      const std::string what = entry["name"].get<std::string>() + ", messages '" + inputs[i].get<std::string>() + "'";
      ASSERT_EQ(text.has_value(), !expected.is_null()) << what << " gives " << text.value_or("an error");
      EXPECT_EQ(text.value_or("an error"), text ? expected.get<std::string>() : "an error") << what;
    }
  }
}

fs::path shared_templates() {
  if (const char* folder = std::getenv("FETTLE_CHAT_TEMPLATES"); folder != nullptr) return folder;
  return fs::path(FETTLE_SOURCE_DIR) / "../shared/data/chat_templates";
}

TEST(ChatTemplate, PublishedTemplatesGiveJinjasText) {
  if (!fs::exists(shared_templates())) GTEST_SKIP() << "no templates at " << shared_templates();
  const auto& document = golden();
  ASSERT_GE(document["shared"].size(), 10u);
  for (const auto& entry : document["shared"]) {
    const fs::path path = shared_templates() / entry["file"].get<std::string>();
    std::ifstream file(path, std::ios::binary);
    const ChatTemplate chat_template(std::string(std::istreambuf_iterator<char>(file), {}), path.string());
    for (const auto& row : entry["cases"]) {
      const auto& tools = document["tools"];
      const ordered_json* extra = row[2].is_null() ? nullptr : &document["extras"][row[2].get<std::string>()];
      const TemplateInput input =
          input_of(document["conversations"][row[0].get<std::string>()], row[1].get<bool>() ? &tools : nullptr, extra, row[3].get<bool>());
      std::string digest, text;
      try {
        text = chat_template.render(input);
        digest = sha256_hex(text).substr(0, 12);
      } catch (const Error& error) {
        text = error.text();
      }
      EXPECT_EQ(digest, row[4].is_null() ? "" : row[4].get<std::string>()) << entry["file"] << " " << row.dump() << "\n" << text;
    }
  }
}

// ---- who wrote what ----

std::vector<std::string> quoted_parts(const std::string& source, const ordered_json& messages) {
  const ChatTemplate chat_template(source, "t.jinja");
  const Rendered rendered = chat_template.render_marked(input_of(messages, nullptr, nullptr, false));
  std::vector<std::string> parts;
  size_t last = 0;
  for (const TextSpan& span : rendered.quoted) {
    EXPECT_LE(last, span.begin);
    EXPECT_LT(span.begin, span.end);
    EXPECT_LE(span.end, rendered.text.size());
    parts.push_back(rendered.text.substr(span.begin, span.end - span.begin));
    last = span.end;
  }
  return parts;
}

using Parts = std::vector<std::string>;

TEST(ChatTemplate, RemembersWhatMessagesWrote) {
  const ordered_json messages = ordered_json::parse(R"([{"role":"user","content":" a<b>c "},{"role":"<x>","content":"d"}])");
  const std::string c = "{% set c = messages[0].content %}";
  EXPECT_EQ(quoted_parts("x{{ messages[0].content }}y", messages), (Parts{" a<b>c "}));
  EXPECT_EQ(quoted_parts(c + "{{ '<' + c | trim + '>' }}", messages), (Parts{"a<b>c"}));
  EXPECT_EQ(quoted_parts(c + "{{ c.split('b')[1] ~ 'z' ~ c[1:3] }}", messages), (Parts{">c ", "a<"}));
  EXPECT_EQ(quoted_parts(c + "{{ c.replace('b', 'NEW') }}", messages), (Parts{" a<", ">c "}));
  EXPECT_EQ(quoted_parts(c + "{{ c | upper }}", messages), (Parts{" A<B>C "}));
  EXPECT_EQ(quoted_parts(c + "{{ {'k': c} | tojson }}", messages), (Parts{"\" a<b>c \""}));
  EXPECT_EQ(quoted_parts(c + "{% set d %}[{{ c }}]{% endset %}{{ d }}{% macro m(x) %}({{ x }}){% endmacro %}{{ m(c) }}", messages),
            (Parts{" a<b>c ", " a<b>c "}));
  EXPECT_EQ(quoted_parts(c + "{{ '%s!' % c }}{{ '{}'.format(c) }}", messages), (Parts{" a<b>c ", " a<b>c "}));
  EXPECT_EQ(quoted_parts(c + "{% for x in c %}{{ x }}{% endfor %}", messages), (Parts{" a<b>c "}));
  EXPECT_EQ(quoted_parts(c + "{{ c | length }}{{ 'text' }}", messages), Parts{});
  EXPECT_EQ(quoted_parts(c + "{{ ['t', c] | join('-') }}", messages), (Parts{" a<b>c "}));
  // A role that models know is as good as the template's own word; any other is not.
  EXPECT_EQ(quoted_parts("{{ '<|' + messages[0].role + '|>' + messages[1].role }}", messages), (Parts{"<x>"}));
}

// ---- hostile templates ----

void refuse(const std::string& source, const std::string& word) {
  try {
    const std::string text = render(source);
    FAIL() << source.substr(0, 100) << " gave " << text.size() << " bytes";
  } catch (const Error& error) {
    EXPECT_NE(error.text().find(word), std::string::npos) << error.text().substr(0, 300) << "\nof " << source.substr(0, 100);
    EXPECT_LT(error.text().size(), 1000u);
  }
}

std::string repeated(const std::string& what, size_t n) {
  std::string all;
  for (size_t i = 0; i < n; ++i) all += what;
  return all;
}

TEST(ChatTemplate, EndlessWorkIsCutOff) {
  refuse("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "too many steps");
  refuse("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "too deeply");
  refuse("{% macro m(n) %}{{ m(n - 1) }}{{ m(n - 1) }}{% endmacro %}{{ m(9999) }}", "too deeply");
  refuse("{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(30) }}", "too many steps");
  refuse("{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}", "too deeply");
  refuse("{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}", "too deeply");
  refuse("{{ range(99999999999) }}", "range of more than");
  refuse("{{ range(-9223372036854775807, 9223372036854775807) }}", "range of more than");
  refuse("{% set l = range(100000) | list %}{% for x in l %}{{ x in l }}{% endfor %}", "too many steps");
  refuse("{{ range(90000) | map('string') | unique | list | length }}", "too many steps");
  refuse("{% set s = 'a' * 10000000 %}{% for i in range(100000) %}{{ s.find('b') }}{% endfor %}", "too many steps");
  refuse("{% set s = 'ab' * 1000000 %}{% for i in range(100000) %}{{ s.replace('b', 'cc') | length }}{% endfor %}", "too many steps");
  refuse("{{ 9 ** 99999999999 }}", "too large");
  EXPECT_EQ(render("{{ 1 ** 99999999999 }}{{ 0 ** 99999999999 }}{{ (-1) ** 99999999999 }}"), "10-1");
}

TEST(ChatTemplate, HugeValuesAreCutOff) {
  refuse("{% set ns = namespace(s='xxxxxxxx') %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}{% endfor %}", "too much memory");
  refuse("{{ 'x' * 99999999999 }}", "too much memory");
  refuse("{{ 'x' * 9223372036854775807 }}", "too much memory");
  refuse("{{ [1] * 99999999999 }}", "too much memory");
  refuse("{{ 'x'.ljust(9223372036854775807) }}", "too much memory");
  refuse("{{ '%9223372036854775807d' % 1 }}", "too wide");
  refuse("{{ '{:9223372036854775807d}'.format(1) }}", "too wide");
  refuse("{% set s = 'x' * 12000000 %}{{ s }}{{ s }}{{ s }}", "writes too much");
  refuse("{% set ns = namespace(l=[1]) %}{% for i in range(90) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l == ns.l }}",
         "too much memory");
  refuse("{% set ns = namespace(l=[1]) %}{% for i in range(1000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}", "nested too deeply");
  refuse("{% set ns = namespace(d={}) %}{% for i in range(1000) %}{% set ns.d = {'k': ns.d} %}{% endfor %}{{ ns.d | tojson }}",
         "nested too deeply");
  refuse("{% set s = 'x' * 1000000 %}{% set l = [s] * 100 %}{{ (l + l) | join }}", "too much memory");
  refuse("{{ dict(range(0, 200) | batch(2)) }}", "keys that are no texts");
}

// `n` times `open`, then what closes it again, so that the lexer has nothing to say.
std::string nest(const std::string& open, const std::string& inside, const std::string& close, size_t n) {
  return "{{ " + repeated(open, n) + inside + repeated(close, n) + " }}";
}

TEST(ChatTemplate, HostileSourcesAreRefusedByTheParser) {
  refuse(nest("(", "1", ")", 300'000), "nested too deeply");
  refuse(nest("[", "1", "]", 300'000), "nested too deeply");
  refuse(nest("{1:", "1", "}", 200'000), "nested too deeply");
  refuse(nest("f(", "1", ")", 300'000), "nested too deeply");
  refuse(nest("a[", "1", "]", 300'000), "nested too deeply");
  refuse(nest("not ", "1", "", 200'000), "nested too deeply");
  refuse(nest("-", "1", "", 900'000), "nested too deeply");
  refuse(nest("", "1", "+1", 400'000), "too many parts");
  refuse(nest("", "1", " and 1", 100'000), "too many parts");
  refuse(nest("", "a", ".a", 400'000), "too many parts");
  refuse(nest("", "a", "|e", 400'000), "too many parts");
  refuse(nest("", "a", "()", 400'000), "too many parts");
  refuse(nest("", "1", " if 1 else 1", 80'000), "nested too deeply");
  refuse("{{ " + repeated("(", 900'000), "not closed");
  refuse(repeated("{% if 1 %}", 90'000), "nested too deeply");
  refuse(repeated("{% for x in y %}", 60'000), "nested too deeply");
  refuse(repeated("{% macro m() %}", 60'000), "nested too deeply");
  refuse("{% set " + repeated("(", 400'000) + repeated(")", 400'000) + " = 1 %}", "nested too deeply");
  refuse("{% raw %}" + repeated("{%", 400'000), "raw block is not closed");
  refuse("{#" + repeated("{#", 400'000), "comment is not closed");
  refuse("{{ '" + repeated("\\'", 400'000), "text is not closed");
  refuse(std::string((1 << 20) + 1, 'x'), "too long");
  refuse("{{ \xff }}", "UTF-8");
  refuse("a\n\n{% if x %}\n{% foo %}", "line 4");
  refuse("{% include 'x' %}", "unsupported tag 'include'");
  refuse("{% import 'x' as y %}", "unsupported tag 'import'");
  refuse("{% extends 'x' %}", "unsupported tag 'extends'");
  EXPECT_EQ(render(repeated("{{ 1 }}", 100'000)).size(), 100'000u);
  EXPECT_EQ(render("{% if 0 %}" + repeated("{% elif 0 %}", 80'000) + "{% else %}x{% endif %}"), "x");
}

TEST(ChatTemplate, GarbageNeverCrashes) {
  const std::string pieces[] = {"{{",     "}}",     "{%",  "%}",     "{#", "#}", "if ",    "for ", "x",       " in ",     "'",
                                "\"",     "(",      ")",   "[",      "]",  "{",  "}",      "|",    "is ",     "set ",     "=",
                                "endif",  "endfor", "raw", "endraw", "-",  "+",  "\\u",    "%",    ",",       "messages", ".",
                                "length", "1",      "~",   ":",      "\n", "  ", "macro ", "m()",  "\xc3\xa9"};
  uint64_t state = 1;
  for (int i = 0; i < 3000; ++i) {
    std::string source;
    for (int n = 0; n < 30; ++n) {
      state = state * 6364136223846793005ULL + 1442695040888963407ULL;
      source += pieces[(state >> 33) % std::size(pieces)];
    }
    rendered(source, input_of(golden()["conversations"]["one"], nullptr, nullptr, false));
  }
}

TEST(ChatTemplate, DeepMessagesAreRefused) {
  ordered_json deep = "x";
  for (int i = 0; i < 5000; ++i) deep = ordered_json::array({std::move(deep)});
  const ChatTemplate chat_template("{{ messages }}", "t.jinja");
  TemplateInput input;
  input.messages = &deep;
  EXPECT_THROW(chat_template.render(input), Error);
}

TEST(ChatTemplate, ErrorsNamePlaceAndLine) {
  try {
    render("a\n{{ 1 }}\n  {{ raise_exception('only text') }}");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.text(), "t.jinja, line 3: only text");
    EXPECT_NE(error.hint, "");
  }
  refuse("{{ messages[0].x }}", "a 'list' has no such element");
  refuse("{{ {'a': 1}.x.y }}", "a 'dict' has no element 'x'");
  refuse("{{ nobody.x }}", "'nobody' is undefined");
  refuse("\n{{ 'a' + 1 }}", "line 2");
  refuse("{{ {'a': 1}.update({}) }}", "not allowed");
}

}  // namespace
}  // namespace fettle
