// Values as text: Python's str and repr. What came from outside stays marked as such.
#include <algorithm>
#include <cmath>

#include "text/template_run.h"
#include "text/template_text.h"
#include "text/unicode.h"

namespace fettle::jinja {
namespace {

std::string quoted_text(std::string_view text) {
  const char quote = text.find('\'') != std::string_view::npos && text.find('"') == std::string_view::npos ? '"' : '\'';
  std::string out(1, quote);
  for (size_t at = 0; at < text.size();) {
    const Character c = decode_character(text.substr(at));
    if (c.value == '\n')
      out += "\\n";
    else if (c.value == '\r')
      out += "\\r";
    else if (c.value == '\t')
      out += "\\t";
    else if (c.value == '\\' || c.value == static_cast<uint32_t>(quote))
      (out += '\\') += static_cast<char>(c.value);
    else if (is_printable(c.value))
      out += text.substr(at, c.n_bytes);
    else if (c.value == kInvalidByte)
      append_hex(out, "\\x%02x", static_cast<uint8_t>(text[at]));
    else
      append_hex(out, c.value < 0x100 ? "\\x%02x" : c.value < 0x10000 ? "\\u%04x" : "\\U%08x", c.value);
    at += c.n_bytes;
  }
  return out += quote;
}

struct Printer {
  Run& run;
  Marked out;

  void list(const List& list) {
    constexpr const char* kOpen[] = {"[", "(", "dict_keys([", "dict_values([", "dict_items([", "", ""};
    constexpr const char* kClose[] = {"]", ")", "])", "])", "])", "", ""};
    if (list.kind == List::Kind::iterator) run.fail("a generator cannot be printed: make it a list with '| list'");
    const auto kind = static_cast<size_t>(list.kind);
    if (list.kind == List::Kind::range) {
      const int64_t step = list.items.size() > 1 ? list.items[1].whole() - list.items[0].whole() : 1;
      const int64_t start = list.items.empty() ? 0 : list.items[0].whole(),
                    stop = list.items.empty() ? 0 : list.items.back().whole() + step;
      out.append("range(" + std::to_string(start) + ", " + std::to_string(stop) + (step == 1 ? ")" : ", " + std::to_string(step) + ")"));
      return;
    }
    out.append(kOpen[kind]);
    for (size_t i = 0; i < list.items.size(); ++i) {
      if (i > 0) out.append(", ");
      value(list.items[i]);
    }
    if (list.kind == List::Kind::tuple && list.items.size() == 1) out.append(",");
    out.append(kClose[kind]);
  }

  void dict(const Dict& dict) {
    out.append("{");
    bool first = true;
    for (const auto& [key, held] : dict.items) {
      if (!std::exchange(first, false)) out.append(", ");
      value(key);
      out.append(": ");
      value(held);
    }
    out.append("}");
  }

  void value(const Value& value) {
    run.charge(1);
    run.need(out.bytes.size());
    if (value.is_undefined()) {
      out.append("Undefined");
    } else if (value.is_text()) {
      run.charge_bytes(value.text().bytes.size());
      out.append(value.text().like(quoted_text(value.text().bytes)));
    } else if (value.is_list()) {
      list(value.list());
    } else if (value.is_dict()) {
      dict(value.dict());
    } else if (value.is<Object*>() || value.is<std::shared_ptr<const Method>>()) {
      run.wrong_type("cannot be printed:", value);
    } else {
      out.append(run.str(value).bytes);
    }
  }
};

}  // namespace

Marked repr(Run& run, const Value& value) {
  Printer printer{run, {}};
  printer.value(value);
  return std::move(printer.out);
}

Marked Run::str(const Value& value) {
  if (value.is_text()) return value.text();
  if (value.is_none()) return Marked("None");
  if (value.is<bool>()) return Marked(value.as<bool>() ? "True" : "False");
  if (value.is<int64_t>()) return Marked(std::to_string(value.as<int64_t>()));
  if (value.is<double>()) return Marked(number_text(value.as<double>()));
  if (value.is_undefined()) return {};
  return repr(*this, value);
}

}  // namespace fettle::jinja
