// Values as JSON: json.dumps, as the filter tojson lays it out. What came from outside stays marked as such.
#include <algorithm>
#include <cmath>

#include "text/template_run.h"
#include "text/template_text.h"
#include "text/unicode.h"

namespace fettle::jinja {

namespace {

std::string json_text(std::string_view text, bool ascii) {
  constexpr std::string_view kPlain = "\"\\\b\f\n\r\t", kNames = "\"\\bfnrt";
  std::string out = "\"";
  for (size_t at = 0; at < text.size();) {
    const Character c = decode_character(text.substr(at));
    const size_t named = c.value < 0x80 ? kPlain.find(static_cast<char>(c.value)) : std::string_view::npos;
    if (named != std::string_view::npos) {
      (out += '\\') += kNames[named];
    } else if (c.value < 0x20 || (ascii && c.value > 0x7E && c.value < 0x10000)) {
      append_hex(out, "\\u%04x", c.value);
    } else if (ascii && c.value >= 0x10000 && c.value < kInvalidByte) {
      append_hex(out, "\\u%04x", 0xD800 + ((c.value - 0x10000) >> 10));
      append_hex(out, "\\u%04x", 0xDC00 + ((c.value - 0x10000) & 0x3FF));
    } else {
      out += text.substr(at, c.n_bytes);
    }
    at += c.n_bytes;
  }
  return out += '"';
}

struct JsonWriter {
  Run& run;
  const JsonLayout& layout;
  Marked out;
  int depth = 0;

  void break_line() {
    if (!layout.lines) return;
    run.charge_bytes(layout.indent.size() * static_cast<size_t>(depth));
    out.append("\n");
    for (int i = 0; i < depth; ++i) out.append(layout.indent);
  }

  void scalar(const Value& value) {
    if (value.is_none())
      out.append("null");
    else if (value.is<bool>())
      out.append(value.as<bool>() ? "true" : "false");
    else if (value.is<double>() && std::isnan(value.as<double>()))
      out.append("NaN");
    else if (value.is<double>() && std::isinf(value.as<double>()))
      out.append(value.as<double>() > 0 ? "Infinity" : "-Infinity");
    else if (value.is_number())
      out.append(run.str(value).bytes);
    else
      run.fail(std::string("a '") + type_name(value) + "' cannot be written as JSON");
  }

  void text(const Marked& text) {
    run.charge_bytes(text.bytes.size());
    out.append(text.like(json_text(text.bytes, layout.ascii)));
  }

  void key(const Value& key) {
    if (key.is_text()) {
      text(key.text());
      return;
    }
    if (!key.is_number() && !key.is_none()) run.fail(std::string("a '") + type_name(key) + "' cannot be a key in JSON");
    out.append("\"");
    scalar(key);
    out.append("\"");
  }

  void list(const List& list) {
    if (list.items.empty()) {
      out.append("[]");
      return;
    }
    out.append("[");
    ++depth;
    for (size_t i = 0; i < list.items.size(); ++i) {
      if (i > 0) out.append(layout.between);
      break_line();
      value(list.items[i]);
    }
    --depth;
    break_line();
    out.append("]");
  }

  void dict(const Dict& dict) {
    if (dict.items.empty()) {
      out.append("{}");
      return;
    }
    std::vector<const std::pair<Value, Value>*> items;
    for (const auto& item : dict.items) items.push_back(&item);
    if (layout.sort_keys) {
      run.charge(items.size() * 16);
      std::stable_sort(items.begin(), items.end(), [&](const auto* a, const auto* b) { return run.less(a->first, b->first); });
    }
    out.append("{");
    ++depth;
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out.append(layout.between);
      break_line();
      key(items[i]->first);
      out.append(layout.after_key);
      value(items[i]->second);
    }
    --depth;
    break_line();
    out.append("}");
  }

  void value(const Value& value) {
    run.charge(1);
    run.need(out.bytes.size());
    if (value.is_text())
      text(value.text());
    else if (value.is_list() && (value.list().kind == List::Kind::list || value.list().kind == List::Kind::tuple))
      list(value.list());
    else if (value.is_dict())
      dict(value.dict());
    else
      scalar(value);
  }
};

}  // namespace

Marked to_json(Run& run, const Value& value, const JsonLayout& layout) {
  JsonWriter writer{run, layout, {}};
  writer.value(value);
  return std::move(writer.out);
}

}  // namespace fettle::jinja
