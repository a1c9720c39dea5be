// Python's two ways of formatting: "%…" and "{…}". What came from outside stays marked as such.
// Not handled: nested fields and thousands separators of str.format.
#include <algorithm>
#include <cstdio>

#include "text/template_run.h"
#include "text/template_text.h"
#include "text/unicode.h"

namespace fettle::jinja {

namespace {

constexpr size_t kMaxPadding = 10'000;

// "[fill][align][sign][#][0][width][.precision][type]"
struct Spec {
  std::string fill = " ";
  char align = 0, sign = '-', type = 0;
  bool alternate = false;
  size_t width = 0;
  int precision = -1;
};

size_t digits(Run& run, std::string_view text, size_t& at) {
  size_t n = 0;
  for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at) {
    n = n * 10 + static_cast<size_t>(text[at] - '0');
    if (n > kMaxPadding) run.fail("a format is too wide");
  }
  return n;
}

std::string number_digits(Run& run, const Value& value, const Spec& spec) {
  char buffer[512];
  const char type = spec.type;
  int n = 0;
  const bool integral =
      value.is_whole() && (type == 0 || type == 'd' || type == 'i' || type == 'x' || type == 'X' || type == 'o' || type == 'b');
  if (integral) {
    const int64_t number = value.whole();
    const uint64_t magnitude = number < 0 ? 0 - static_cast<uint64_t>(number) : static_cast<uint64_t>(number);
    if (type == 'b') {
      std::string bits;
      for (uint64_t rest = magnitude; rest > 0 || bits.empty(); rest >>= 1) bits.insert(bits.begin(), rest & 1 ? '1' : '0');
      return (number < 0 ? "-" : spec.sign != '-' ? std::string(1, spec.sign) : "") + bits;
    }
    const char* format = type == 'x' ? "%llx" : type == 'X' ? "%llX" : type == 'o' ? "%llo" : "%llu";
    n = std::snprintf(buffer, sizeof buffer, format, static_cast<unsigned long long>(magnitude));
    return (number < 0 ? "-" : spec.sign != '-' ? std::string(1, spec.sign) : "") + std::string(buffer, static_cast<size_t>(n));
  }
  const double number = value.real();
  const std::string sign = std::signbit(number) ? "-" : spec.sign != '-' ? std::string(1, spec.sign) : "";
  const double size = std::fabs(number) * (type == '%' ? 100 : 1);
  if (type == 0 && spec.precision < 0) return sign + number_text(size);
  if (spec.precision > 100) run.fail("a format is too wide");
  const int precision = spec.precision < 0 ? 6 : spec.precision;
  const char* format = type == 'e' ? "%.*e" : type == 'E' ? "%.*E" : type == 'g' || type == 0 ? "%.*g" : type == 'G' ? "%.*G" : "%.*f";
  if (std::string_view("eEfFgG%").find(type) == std::string_view::npos && type != 0)
    run.fail(std::string("unknown format '") + type + "' for a number");
  n = std::snprintf(buffer, sizeof buffer, format, precision, size);
  return sign + std::string(buffer, std::min<size_t>(static_cast<size_t>(n), sizeof buffer - 1)) + (type == '%' ? "%" : "");
}

void pad(Marked& out, const Marked& body, const Spec& spec, char align) {
  const size_t n = n_characters(body.bytes);
  const size_t missing = spec.width > n ? spec.width - n : 0;
  const size_t left = align == '<' ? 0 : align == '^' ? missing / 2 : missing;
  const bool inner = align == '=' && !body.bytes.empty() && (body.bytes[0] == '-' || body.bytes[0] == '+' || body.bytes[0] == ' ');
  if (inner) out.append(body, 0, 1);
  for (size_t i = 0; i < left; ++i) out.append(spec.fill);
  out.append(body, inner ? 1 : 0);
  for (size_t i = left; i < missing; ++i) out.append(spec.fill);
}

void format_value(Run& run, Marked& out, const Value& value, const Spec& spec) {
  if (value.is_number() && spec.type != 's') {
    const Value number = value.is<bool>() ? Value(value.whole()) : value;
    pad(out, Marked(number_digits(run, number, spec)), spec, spec.align != 0 ? spec.align : '>');
    return;
  }
  if (spec.type != 0 && spec.type != 's') run.wrong_type(std::string("format '") + spec.type + "' does not fit", value);
  Marked body = run.str(value);
  if (spec.precision >= 0) body = body.slice(0, character_offset(body.bytes, static_cast<size_t>(spec.precision)));
  pad(out, body, spec, spec.align != 0 && spec.align != '=' ? spec.align : '<');
}

Spec brace_spec(Run& run, std::string_view text) {
  Spec spec;
  size_t at = 0;
  const auto is_align = [](char c) { return c == '<' || c == '>' || c == '^' || c == '='; };
  const size_t first = text.empty() ? 0 : decode_character(text).n_bytes;
  if (text.size() > first && is_align(text[first])) {
    spec.fill = text.substr(0, first);
    spec.align = text[first];
    at = first + 1;
  } else if (!text.empty() && is_align(text[0])) {
    spec.align = text[at++];
  }
  if (at < text.size() && (text[at] == '+' || text[at] == '-' || text[at] == ' ')) spec.sign = text[at++];
  if (at < text.size() && text[at] == '0') {
    if (spec.align == 0) {
      spec.fill = "0";
      spec.align = '=';
    }
    ++at;
  }
  spec.width = digits(run, text, at);
  if (at < text.size() && text[at] == '.') spec.precision = static_cast<int>(digits(run, text, ++at));
  if (at < text.size()) spec.type = text[at++];
  if (at != text.size()) run.fail("unknown format '" + std::string(text.substr(0, 40)) + "'");
  return spec;
}

// "{...}" with what stands behind its colon, which only texts and numbers understand.
void format_field(Run& run, Marked& out, const Value& value, std::string_view spec) {
  if (spec.empty()) {
    out.append(run.str(value));
    return;
  }
  if (!value.is_text() && !value.is_number()) run.wrong_type("a format with a ':' needs a text or a number, not", value);
  format_value(run, out, value, brace_spec(run, spec));
}

}  // namespace

Marked percent_format(Run& run, const Marked& format, const Value& values) {
  const bool many = values.is_list() && values.list().kind == List::Kind::tuple;
  size_t used = 0;
  const auto next = [&]() -> Value {
    const size_t n = many ? values.list().items.size() : 1;
    if (used >= n) run.fail("not enough values for a format");
    ++used;
    return many ? values.list().items[used - 1] : values;
  };
  Marked out;
  const std::string_view text = format.bytes;
  bool by_name = false;
  for (size_t at = 0; at < text.size();) {
    run.charge(1);
    run.need(out.bytes.size());
    const size_t percent = std::min(text.find('%', at), text.size());
    out.append(format, at, percent);
    at = percent + 1;
    if (percent == text.size()) break;
    Value value;
    bool named = false;
    if (at < text.size() && text[at] == '(') {
      const size_t close = text.find(')', at);
      if (close == std::string_view::npos || !values.is_dict()) run.fail("a format with names needs a mapping");
      value = run.item(values, run.text(std::string(text.substr(at + 1, close - at - 1))));
      named = by_name = true;
      at = close + 1;
    }
    Spec spec;
    for (; at < text.size() && std::string_view("-+ 0#").find(text[at]) != std::string_view::npos; ++at) {
      if (text[at] == '-') spec.align = '<';
      if (text[at] == '+' || text[at] == ' ') spec.sign = text[at];
      if (text[at] == '0' && spec.align == 0) {
        spec.fill = "0";
        spec.align = '=';
      }
    }
    spec.width = digits(run, text, at);
    if (at < text.size() && text[at] == '.') spec.precision = static_cast<int>(digits(run, text, ++at));
    if (at >= text.size()) run.fail("a format is not complete");
    spec.type = text[at++];
    if (spec.type == '%') {
      out.append("%");
      continue;
    }
    if (!named) value = next();
    if (spec.align == 0) spec.align = '>';
    if (spec.type == 's' || spec.type == 'r') {
      value = run.text(spec.type == 's' ? run.str(value) : repr(run, value));
      spec.type = 's';
    } else if (!value.is_number()) {
      run.wrong_type("a format needs a number, not", value);
    } else if ((spec.type == 'd' || spec.type == 'i') && value.is<double>()) {
      value = static_cast<int64_t>(std::clamp(std::trunc(value.as<double>()), -9e18, 9e18));
    } else if (value.is<bool>()) {
      value = value.whole();
    }
    format_value(run, out, value, spec);
  }
  if (!by_name && !values.is_dict() && used < (many ? values.list().items.size() : 1)) run.fail("too many values for a format");
  return out;
}

Marked brace_format(Run& run, const Marked& format, const Args& args) {
  Marked out;
  const std::string_view text = format.bytes;
  size_t automatic = 0;
  for (size_t at = 0; at < text.size();) {
    run.charge(1);
    run.need(out.bytes.size());
    const size_t brace = std::min(text.find_first_of("{}", at), text.size());
    out.append(format, at, brace);
    at = brace;
    if (at == text.size()) break;
    if (text.substr(at, 2) == "{{" || text.substr(at, 2) == "}}") {
      out.append(format, at, at + 1);
      at += 2;
      continue;
    }
    const size_t close = text.find('}', at);
    if (text[at] == '}' || close == std::string_view::npos) run.fail("a format has a single brace");
    std::string_view field = text.substr(at + 1, close - at - 1), spec;
    at = close + 1;
    if (const size_t colon = field.find(':'); colon != std::string_view::npos) {
      spec = field.substr(colon + 1);
      field = field.substr(0, colon);
    }
    const bool as_repr = field.ends_with("!r");
    if (as_repr || field.ends_with("!s")) field.remove_suffix(2);
    Value value;
    if (field.find_first_not_of("0123456789") == std::string_view::npos) {
      size_t digit = 0;
      const size_t index = field.empty() ? automatic++ : digits(run, field, digit);
      if (index >= args.positional.size()) run.fail("not enough values for a format");
      value = args.positional[index];
    } else {
      const auto known = std::find_if(args.named.begin(), args.named.end(), [&](const auto& pair) { return pair.first == field; });
      if (known == args.named.end()) run.fail("a format names an unknown value: '" + std::string(field.substr(0, 40)) + "'");
      value = known->second;
    }
    format_field(run, out, as_repr ? run.text(repr(run, value)) : value, spec);
  }
  return out;
}

}  // namespace fettle::jinja
