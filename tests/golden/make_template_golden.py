#!/usr/bin/env python3
"""Makes template_golden.json: what Jinja2, set up as Hugging Face's apply_chat_template sets it up, makes of chat templates.

    python3 make_template_golden.py [FOLDER of *.jinja]      (default: ../shared/data/chat_templates beside the repository)

Two kinds of cases. "own": templates written for this test, kept in the file with the text they give (null: Jinja2 refuses). "shared": the
templates of the folder, named by file; of their texts only a digest and the length are kept. Needs jinja2 3.1.6."""
import datetime
import functools
import hashlib
import json
import os
import pathlib
import sys

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = pathlib.Path(__file__).resolve().parent
NOW = 1768467600  # 2026-01-15 09:00 UTC: the same day in every time zone


class Generation(Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def environment():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda f: datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc).strftime(f)
    return env


ENV = environment()
compiled = functools.lru_cache(ENV.from_string)


def render(source, variables):
    """The text, or None when Jinja2 or Python refuses."""
    try:
        return compiled(source).render(**variables)
    except Exception:  # any refusal counts
        return None


def user(text, **more):
    return {"role": "user", "content": text, **more}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def system(text):
    return {"role": "system", "content": text}


def call(name, arguments, identity="abc123XYZ"):
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}


TOOLS = [
    {"type": "function", "function": {
        "name": "track_parcel", "description": "Says where a parcel is <now> & \"when\" it comes.",
        "parameters": {"type": "object", "properties": {
            "number": {"type": "string", "description": "Parcel number, e.g. 'ÄB-12'", "enum": ["a", "b"]},
            "days": {"type": "integer", "default": 3, "nullable": True},
            "sizes": {"type": "array", "items": {"type": "number"}},
            "either": {"oneOf": [{"type": "string", "description": "by name"}, {"type": "integer", "default": 1}]},
            "kinds": {"type": ["string", "null"]},
            "deep": {"type": "object", "properties": {"x": {"type": "boolean"}, "y": {"type": "array"}}, "required": ["x"]}},
            "required": ["number"]}, "return": {"type": "string"}}},
    {"type": "function", "function": {"name": "ping", "description": "No parameters.", "parameters": {"type": "object", "properties": {}}}},
]

CONVERSATIONS = {
    "one": [user("Where is my parcel?")],
    "system": [system("You answer briefly."), user("Hi")],
    "turns": [user("Hi"), assistant("Hello! How can I help?"), user("My tea is cold.")],
    "system turns": [system("Be kind.\nAlways."), user("A"), assistant("B"), user("C"), assistant("D"), user("E")],
    "answered": [user("2+2?"), assistant("4")],
    "system answered": [system("Count."), user("1"), assistant("2"), user("3"), assistant("4")],
    "unicode": [user("Größe 😀 — \u4f60\u597d\u3000 \u00a0x\u2028y"), assistant("naïve \u200b café"), user("\u0414\u0430")],
    "empty": [user("")],
    "empty answer": [user("x"), assistant("")],
    "empty system": [system(""), user("x")],
    "blanks": [system("  padded \n"), user("\n\n  two lines \t\n"), assistant("\n\nanswer  \n"), user(" ")],
    "specials": [user("<|im_end|> <|eot_id|></s><end_of_turn> [INST] {{ x }} {% if %} {# #}")],
    "quotes": [user("He said \"it's\" \\ fine\r\nsecond\rthird"), assistant("'ok' \"ok\" <b>&amp;</b>")],
    "think": [user("Why?"), assistant("<think>\nhm\n</think>\n\nBecause."), user("And?"), assistant("<think>so</think>So.")],
    "reasoning": [user("Why?"), assistant("Because.", reasoning_content="I thought."), user("Go on"), assistant("Done", reasoning_content="More.")],
    "thinking": [user("Why?"), assistant("Because.", thinking="I thought."), user("Go on"), assistant("Done", thinking="More.")],
    "modes": [system("Help. /no_think"), user("x /think")],
    "call": [user("Track ÄB-12"), assistant("", tool_calls=[call("track_parcel", {"number": "ÄB-12", "days": 2})]),
             {"role": "tool", "content": "{\"where\": \"Ulm\"}", "name": "track_parcel", "tool_call_id": "abc123XYZ"}],
    "call none": [user("Track"), assistant(None, tool_calls=[call("ping", {})]), {"role": "tool", "content": "pong", "tool_call_id": "abc123XYZ"},
                  assistant("It lives."), user("Thanks")],
    "call text arguments": [user("Track"), assistant(None, tool_calls=[call("ping", "{\"a\": [1, 2.5, null]}")]),
                            {"role": "tool", "content": "pong", "tool_call_id": "abc123XYZ"}, assistant("Fine")],
    "two calls": [user("Both"), assistant("Looking.", tool_calls=[call("ping", {}), call("track_parcel", {"number": "a"}, "def456UVW")]),
                  {"role": "tool", "content": "1", "tool_call_id": "abc123XYZ"}, {"role": "tool", "content": "2", "tool_call_id": "def456UVW"},
                  assistant("Both done.")],
    "system call": [system("S"), user("Q"), assistant("", tool_calls=[call("ping", {"deep": {"list": [True, None, "é"]}})]),
                    {"role": "tool", "content": {"result": [1, 2]}, "tool_call_id": "abc123XYZ"}],
    "parts": [user([{"type": "text", "text": "part one"}, {"type": "text", "text": "part two"}])],
    "developer": [{"role": "developer", "content": "Rules."}, user("Hi")],
    "wrong order": [assistant("I begin"), user("Hi")],
    "twice": [user("a"), user("b")],
    "other role": [{"role": "narrator", "content": "Once upon a time"}, user("Hi")],
    "none": [],
}
EXTRAS = {
    "thinking off": {"enable_thinking": False},
    "thinking on": {"enable_thinking": True},
    "builtin": {"builtin_tools": ["browser", "python", "code_interpreter"], "model_identity": "You are a parrot.", "reasoning_effort": "high",
                "date_string": "1 May 2025", "tools_in_user_message": False},
}

# Templates of our own: every construct, each line a trap that some implementation falls into.
OWN = {
    "text": "just text\n", "no newline at end": "a\n\n", "crlf": "a\r\nb\rc\r\n{{ 'x\r\ny' }}", "empty": "",
    "trim": "a\n{% if true %}\nb\n  {% endif %}\nc\n   {{ 1 }}\n{{ 2 }}\nd {% if true %} e {% endif %} f\n",
    "lstrip": "  {% if true %}x{% endif %}\n\t{# c #}\n  {{ 1 }}  {% set a = 1 %}  \n  z",
    "minus": "a  \n {%- if true -%}  \n b \n{%- endif -%} \n c {{- 1 -}} \n d {#- c -#}  \n e",
    "plus": "a\n  {%+ if true +%}\n b\n  {%+ endif %}\n{#+ c +#}\nd",
    "raw": "x\n {% raw %} {{ a }} {% if %}\n {% endraw %}\n y{%- raw -%}  z {%- endraw -%}  w {% raw %}\n a{% endraw +%}\n",
    "comment": "{# {{ x }} {% raw %} #}a{# \n #}\nb",
    "nested braces": "{{ {'a': {'b': 1}}['a']['b'] }}{{ {} }}{{ {'x': [1, (2, 3), {'y': ()}]} }}",
    "escapes": r"""{{ 'a\n\t\\\'\"\x41\u00e9\U0001F600\101\q' }}{{ "it's" }}{{ 'say "x"' }}""",
    "joined texts": "{{ 'a' 'b' \"c\" }}",
    "numbers": "{{ 1_000 }} {{ 0x1F }} {{ 0b101 }} {{ 0o17 }} {{ 1.5 }} {{ 1e3 }} {{ 1.5e-7 }} {{ 2.0 }} {{ 1e16 }} {{ 123456789.125 }} {{ 0.1 + 0.2 }}",
    "arithmetic": "{{ 7 / 2 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 2 ** 10 }} {{ 2 ** -1 }} {{ -2 ** 2 }} {{ 7.5 // 2 }} {{ -7.5 % 2 }} {{ 1 + 2 * 3 - 4 }} {{ (1 + 2) * 3 }} {{ 6 / 3 }} {{ +3 }} {{ - 3 }} {{ true + 1 }}",
    "power chain": "{{ 2 ** 3 ** 2 }}", "minus filter": "{{ -1 | abs }} {{ -3.5 | abs }}",
    "division by zero": "{{ 1 / 0 }}", "text plus number": "{{ 'a' + 1 }}", "text times": "{{ 'ab' * 3 }} {{ 2 * 'x' }} {{ [1] * 2 }} {{ 'a' * -1 }}|",
    "tilde": "{{ 'a' ~ 1 ~ none ~ true ~ 2.5 ~ [1, 'x'] ~ undefined_name }}",
    "print": "{{ none }} {{ true }} {{ false }} {{ [] }} {{ ['a', \"it's\", 'q\"', 'b\\n\\t\\\\', 'é', '\\x00\\u200b'] }} {{ {'k': none, 1: 2.0, 'n': true} }} {{ (1,) }} {{ () }} {{ (1, 2) }}",
    "comparison": "{{ 1 < 2 }} {{ 1 < 2 < 3 }} {{ 3 > 2 > 2 }} {{ 1 == 1.0 }} {{ true == 1 }} {{ 'a' < 'b' }} {{ [1, 2] < [1, 3] }} {{ (1, 2) == [1, 2] }} {{ {'a': 1} == {'a': 1.0} }} {{ none == false }} {{ 'a' != 'b' }} {{ 2 >= 2 }} {{ 'é' > 'z' }}",
    "no order": "{{ 1 < 'a' }}", "none order": "{{ none < 1 }}",
    "logic": "{{ 1 and 2 }} {{ 0 or 'x' }} {{ not 0 }} {{ '' or none }} {{ [] and 1 }} {{ not true and false }} {{ 1 and 0 or 5 }} {{ not 1 == 2 }}",
    "in": "{{ 'a' in 'abc' }} {{ 'x' not in 'abc' }} {{ 1 in [1, 2] }} {{ 'k' in {'k': 1} }} {{ 2 in (1, 2) }} {{ '' in '' }} {{ 1 in missing }} {{ 3 in range(5) }}",
    "in wrong": "{{ 1 in 'abc' }}", "in number": "{{ 1 in 5 }}",
    "inline if": "{{ 1 if true else 2 }}{{ 1 if false }}{{ 'a' if 0 else 'b' if 0 else 'c' }}{{ (1 if true else 2) + 1 }}{{ [1 if false else 2] }}",
    "undefined": "[{{ missing }}][{{ messages.nothing }}][{{ missing is defined }}][{{ missing | default('d') }}][{{ missing or 'o' }}][{{ 'y' if missing else 'n' }}][{% for x in missing %}x{% endfor %}][{{ missing | length }}][{{ missing == other }}][{{ none.x is defined }}][{{ 5['a'] is defined }}][{{ [1][7] is defined }}]",
    "undefined attribute": "{{ missing.x }}", "undefined item": "{{ missing['x'] }}", "undefined plus": "{{ missing + 'a' }}", "undefined call": "{{ missing() }}",
    "undefined method": "{{ 'a'.nothing() }}", "undefined compare": "{{ missing < 1 }}", "undefined json": "{{ missing | tojson }}", "undefined slice": "{{ missing[1:] }}",
    "index": "{{ [1, 2, 3][0] }}{{ [1, 2, 3][-1] }}{{ 'héllo'[1] }}{{ 'héllo'[-1] }}{{ (1, 2).1 }}{{ {'a': 1}.a }}{{ {'a': 1}['a'] }}{{ {1: 'x'}[1] }}{{ {'items': 5}['items'] }}{{ [[1, 2]][0][1] }}{{ {none: 'n', true: 't'}[none] }}",
    "slices": "{{ [1, 2, 3, 4][1:] }}{{ [1, 2, 3, 4][:-1] }}{{ [1, 2, 3, 4][::-1] }}{{ [1, 2, 3, 4][::2] }}{{ [1, 2, 3, 4][-3:-1] }}{{ [1, 2, 3][5:] }}{{ [1, 2, 3][2:0:-1] }}{{ 'höllo'[1:3] }}{{ 'höllo'[::-1] }}{{ 'höllo'[-2:] }}{{ 'hello'[4:1:-2] }}{{ (1, 2, 3)[:2] }}{{ [1, 2, 3][:100] }}{{ [1, 2, 3][-100:2] }}{{ range(10)[2:8:3] }}{{ [1,2,3][none:2] }}",
    "slice none": "{% set n = none %}{{ n[1:] }}", "slice dict": "{% set d = {'a': 1} %}{{ d[1:] }}", "slice step zero": "{% set l = [1] %}{{ l[::0] }}",
    "if": "{% if 0 %}a{% elif '' %}b{% elif [] %}c{% elif 'x' %}d{% else %}e{% endif %}{% if {} %}f{% else %}g{% endif %}{% if 0.0 %}h{% endif %}{% if 'a', 'b' %}i{% endif %}",
    "for": "{% for x in [1, 2, 3] %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.depth }}{{ loop.cycle('a', 'b') }};{% endfor %}{{ loop is defined }}",
    "for else": "{% for x in [] %}a{% else %}b{% endfor %}{% for x in [1] %}c{% else %}d{% endfor %}",
    "for if": "{% for x in range(10) if x % 3 == 0 %}{{ x }}/{{ loop.index }}/{{ loop.length }}/{{ loop.last }} {% else %}none{% endfor %}{% for x in [1] if x > 1 %}{% else %}none{% endfor %}",
    "for unpack": "{% for k, v in {'a': 1, 'b': 2}.items() %}{{ k }}={{ v }},{% endfor %}{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}{% for k in {'x': 1} %}{{ k }}{% endfor %}{% for c in 'hé' %}{{ c }}.{% endfor %}",
    "for unpack wrong": "{% for a, b in [(1, 2, 3)] %}{% endfor %}",
    "for tuple": "{% for x in 1, 2, 3 %}{{ x }}{% endfor %}", "for number": "{% for x in 5 %}{% endfor %}", "for none": "{% for x in none %}{% endfor %}",
    "loop controls": "{% for x in range(10) %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 5 %}{% break %}{% endif %}{{ x }}{% endfor %}{% for x in [1, 2] %}{% for y in [1, 2] %}{% if y == 2 %}{% break %}{% endif %}{{ x }}{{ y }}{% endfor %}{% endfor %}",
    "changed": "{% for x in [1, 1, 2, 2, 1] %}{% if loop.changed(x) %}{{ x }}{% endif %}{% endfor %}",
    "recursive": "{% for n in [{'v': 1, 'c': [{'v': 2, 'c': []}]}, {'v': 3, 'c': []}] recursive %}{{ n.v }}@{{ loop.depth }}[{{ loop(n.c) }}]{% endfor %}",
    "set": "{% set a = 1 %}{% set b, c = 2, 3 %}{{ a }}{{ b }}{{ c }}{% set d = 1, 2 %}{{ d }}{% set (e, f) = [4, 5] %}{{ e }}{{ f }}",
    "set scope": "{% set x = 1 %}{% for i in [1, 2] %}{{ x }}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}{% if true %}{% set x = 9 %}{% endif %}{{ x }}{% if false %}{% set y = 1 %}{% endif %}{{ y is defined }}",
    "set block": "{% set x %}a{{ 1 }}\n  b{% endset %}[{{ x }}]{% set y | upper | trim %} ab {% endset %}[{{ y }}]",
    "namespace": "{% set ns = namespace(a=1, b=[]) %}{% for i in [1, 2] %}{% set ns.a = ns.a + i %}{% set ns.b = ns.b + [i] %}{% endfor %}{{ ns.a }}{{ ns.b }}{{ ns.c is defined }}{% set ns2 = namespace({'x': 1}, y=2) %}{{ ns2.x }}{{ ns2['y'] }}{% set ns2.new = 'n' %}{{ ns2.new }}",
    "namespace wrong": "{% set d = {} %}{% set d.x = 1 %}",
    "with": "{% set a = 1 %}{% with a = 2, b = a %}{{ a }}{{ b }}{% endwith %}{{ a }}{% with %}{% set q = 1 %}{% endwith %}{{ q is defined }}",
    "macro": "{% macro m(a, b=2, c=a) %}[{{ a }}{{ b }}{{ c }}]{% endmacro %}{{ m(1) }}{{ m(1, 3) }}{{ m(b=5, a=6) }}{{ m() }}{{ m(1) | length }}{{ m(1) + 'x' }}",
    "macro varargs": "{% macro m(a) %}{{ a }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, 3, k=4) }}{{ m(*[1, 2], **{'z': 3}) }}",
    "macro too many": "{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}", "macro unknown": "{% macro m(a) %}{% endmacro %}{{ m(b=2) }}",
    "macro recursion": "{% macro fact(n) %}{{ n if n < 2 else n * fact(n - 1) | int }}{% endmacro %}{{ fact(5) }}",
    "macro scope": "{% set x = 1 %}{% macro m() %}{{ x }}{% set x = 5 %}{{ x }}{% endmacro %}{{ m() }}{{ x }}{% set x = 2 %}{{ m() }}{% for loop_x in [1] %}{{ m() }}{% endfor %}",
    "macro default scope": "{% macro m(a, b=a ~ '!') %}{{ b }}{% endmacro %}{{ m('x') }}",
    "call block": "{% macro box(t) %}<{{ t }}>{{ caller() }}</{{ t }}>{% endmacro %}{% call box('b') %}in{% endcall %}{% macro each(l) %}{% for x in l %}{{ caller(x, loop.index) }}{% endfor %}{% endmacro %}{% call(v, i) each(['p', 'q']) %}{{ i }}{{ v }};{% endcall %}",
    "filter block": "{% filter upper %}ab{{ 'c' }}{% endfilter %}{% filter replace('a', 'x') | trim %} banana {% endfilter %}",
    "generation": "a{% generation %}b{% set z = 1 %}{{ 'c' }}{% endgeneration %}d{{ z is defined }}\n{%- generation -%} e {%- endgeneration -%} f",
    "print tag": "{% print 1 %}{% print 'a', 2 %}", "print tag comma": "{% print 'a', %}",
    "text filters": "{{ ' a ' | trim }}|{{ 'xxaxx' | trim('x') }}|{{ 'aBc' | upper }}|{{ 'aBc' | lower }}|{{ 'hello wORLD' | capitalize }}|{{ \"it's a-b (c) d_e\" | title }}|{{ 'a,b' | replace(',', ';') }}|{{ 'aaa' | replace('a', 'b', 2) }}|{{ 5 | string }}|{{ 'ab' | reverse }}|{{ 'a b\nc' | wordcount }}|{{ 'ab' | center(6) }}|{{ '<a href=\"x\">&\\'' | e }}|{{ 'ä b/c?d=e' | urlencode }}|{{ 'x' | safe }}|{{ 'STRASSE ß É' | lower }}|{{ 'straße é' | upper }}",
    "indent": "{{ 'a\nb\n\nc' | indent }}|{{ 'a\nb' | indent(2, true) }}|{{ 'a\n\nb' | indent('>>', blank=true) }}|{{ 'a\nb\n' | indent(1) }}",
    "truncate": "{{ 'hello wonderful world' | truncate(12) }}|{{ 'hello wonderful world' | truncate(12, true) }}|{{ 'short' | truncate(4) }}|{{ 'hello wonderful world' | truncate(12, false, '~', 0) }}",
    "list filters": "{{ [3, 1, 2] | sort }}{{ ['b', 'A', 'c'] | sort }}{{ ['b', 'A', 'c'] | sort(case_sensitive=true) }}{{ [1, 2] | sort(reverse=true) }}{{ [1, 2, 1] | unique | list }}{{ [1, 2] | first }}{{ [1, 2] | last }}{{ [] | first is defined }}{{ [1, 2, 3] | reverse | list }}{{ [1, 2] | sum }}{{ [1, 5, 2] | max }}{{ ['b', 'A'] | min }}{{ 'abc' | list }}{{ {'a': 1} | list }}{{ [1, 2, 3, 4, 5] | batch(2) | list }}{{ [1, 2, 3] | batch(2, 'x') | list }}{{ [1, 2, 3, 4, 5] | slice(3) | list }}{{ [1, 2, 3, 4] | slice(3, 'x') | list }}{{ (1, 2) | length }}{{ 'héé' | count }}{{ {'a': 1} | length }}",
    "join": "{{ [1, 'a', none, 2.5] | join('-') }}{{ ['x'] | join }}{{ [{'a': 1}, {'a': 2}] | join(', ', attribute='a') }}{{ 'abc' | join('.') }}",
    "map": "{{ ['a', 'b'] | map('upper') | list }}{{ [{'x': {'y': 1}}, {'x': {'y': 2}}] | map(attribute='x.y') | list }}{{ [{'a': 1}, {}] | map(attribute='a', default='d') | list }}{{ ['1', '2'] | map('int') | sum }}{{ ['a b'] | map('replace', ' ', '_') | join }}{{ [[1, 2]] | map(attribute=0) | list }}",
    "select": "{{ [1, 2, 3, 4] | select('even') | list }}{{ [0, 1, '', 'x'] | select | list }}{{ [1, 2, 3] | reject('equalto', 2) | list }}{{ [1, none] | reject('none') | list }}{{ [{'r': 'u', 'n': 1}, {'r': 'a', 'n': 2}] | selectattr('r', 'equalto', 'u') | map(attribute='n') | list }}{{ [{'a': 1}, {'a': 0}, {}] | selectattr('a') | list }}{{ [{'a': 1}, {}] | rejectattr('a', 'defined') | list }}{{ [{'r': 'x'}] | selectattr('r', 'in', ['x', 'y']) | list }}{{ [1, 5] | select('>', 2) | list }}{{ [1, 2, 3] | select('ge', 2) | list | length }}",
    "generator": "{% set g = [1, 2] | map('string') %}{{ 'y' if g else 'n' }}{{ g | list }}{{ g | list }}", "generator length": "{{ [1] | map('string') | length }}",
    "dict filters": "{{ {'b': 1, 'a': 2} | dictsort }}{{ {'b': 1, 'a': 2} | dictsort(by='value') }}{{ {'b': 1, 'a': 2} | dictsort(reverse=true) }}{% for k, v in {'a': 1} | items %}{{ k }}{{ v }}{% endfor %}{{ missing | items | list }}{{ {'a': 1} | attr('a') is defined }}",
    "groupby": "{% for k, l in [{'r': 'b', 'n': 1}, {'r': 'a', 'n': 2}, {'r': 'b', 'n': 3}] | groupby('r') %}{{ k }}:{{ l | map(attribute='n') | join(',') }};{% endfor %}",
    "sort attribute": "{{ [{'a': 2, 'b': 1}, {'a': 1, 'b': 2}] | sort(attribute='a') | map(attribute='b') | list }}{{ [{'a': 1, 'b': 2}, {'a': 1, 'b': 1}] | sort(attribute='a,b') | map(attribute='b') | list }}{{ [{'a': 3}, {'a': 9}] | max(attribute='a') }}{{ [{'a': 3}, {'a': 9}] | sum(attribute='a') }}",
    "sort mixed": "{{ [1, 'a'] | sort }}",
    "number filters": "{{ 3.7 | int }}{{ '42' | int }}{{ 'x' | int }}{{ 'x' | int(7) }}{{ '0x1f' | int(base=16) }}{{ '3.9' | int }}{{ none | int }}{{ '2.5' | float }}{{ 'x' | float(1.5) }}{{ 3 | float }}{{ 2.567 | round(2) }}{{ 2.5 | round }}{{ 3.5 | round }}{{ 2.1 | round(method='ceil') }}{{ 2.19 | round(1, 'floor') }}{{ 7 | round }}{{ -3 | abs }}{{ true | int }}{{ ' 12 ' | int }}",
    "default": "{{ none | default('d') }}{{ '' | default('d') }}{{ '' | default('d', true) }}{{ missing | d('x') }}{{ 0 | d(1, boolean=true) }}{{ missing | default }}|",
    "tojson": "{{ {'a': [1, 2.0, none, true], 'é': '<&>\\'\"\\n\\u2028\\x7f'} | tojson }}{{ [] | tojson }}{{ {} | tojson(indent=2) }}{{ {'a': [1, {'b': []}], 'c': {}} | tojson(indent=2) }}{{ {'b': 1, 'a': 2} | tojson(sort_keys=true) }}{{ 'é😀' | tojson(ensure_ascii=true) }}{{ {'a': [1, 2]} | tojson(separators=(',', ':')) }}{{ (1, 2) | tojson }}{{ {1: 2, none: 3, true: 4, 1.5: 5} | tojson }}{{ 1e100 | tojson }}{{ 'x' | tojson }}{{ none | tojson }}{{ {'a': 1} | tojson(indent='--') }}{{ [1] | tojson(indent=0) }}{{ '\\x01\\b\\f/' | tojson }}",
    "tojson method": "{{ {'a': 1}.items | tojson }}", "tojson items": "{{ {'a': 1}.items() | tojson }}",
    "text methods": "{{ ' a '.strip() }}|{{ 'xax'.strip('x') }}|{{ 'abcba'.lstrip('ab') }}|{{ 'abcba'.rstrip('ab') }}|{{ 'a-b-c'.split('-') }}|{{ ' a  b '.split() }}|{{ 'a-b-c'.split('-', 1) }}|{{ 'a b c'.split(none, 1) }}|{{ 'a-b-c'.rsplit('-', 1) }}|{{ ' a b  c '.rsplit(maxsplit=1) }}|{{ 'a=b=c'.partition('=') }}|{{ 'a=b=c'.rpartition('=') }}|{{ 'ab'.partition('x') }}|{{ 'a\nb\r\nc\n'.splitlines() }}|{{ 'a\nb'.splitlines(true) }}|{{ 'abc'.startswith('ab') }}|{{ 'abc'.endswith(('x', 'c')) }}|{{ 'abc'.find('c') }}|{{ 'éabc'.find('c') }}|{{ 'abc'.find('x') }}|{{ 'abcabc'.rfind('b') }}|{{ 'aXb'.lower() }}|{{ 'aXb'.upper() }}|{{ 'aXb'.swapcase() }}|{{ \"they're bill's\".title() }}|{{ 'aBC'.capitalize() }}|{{ 'banana'.replace('a', 'o') }}|{{ 'banana'.replace('a', 'o', 1) }}|{{ 'ab'.replace('', '-') }}|{{ 'banana'.count('an') }}|{{ '-'.join(['a', 'b']) }}|{{ 'a'.ljust(3) }}|{{ 'a'.rjust(3, '*') }}|{{ 'ab'.center(5, '.') }}|{{ '-5'.zfill(4) }}|{{ 'prefix-x'.removeprefix('prefix-') }}|{{ 'x.txt'.removesuffix('.txt') }}|{{ 'abc'.index('b') }}",
    "text checks": "{{ '12'.isdigit() }}{{ ''.isdigit() }}{{ 'a1'.isalnum() }}{{ 'ab'.isalpha() }}{{ ' \t'.isspace() }}{{ 'aB'.islower() }}{{ 'AB'.isupper() }}{{ 'a1'.islower() }}{{ 'é'.isascii() }}{{ '1'.isnumeric() }}{{ 'abc' is lower }}{{ 'ABC' is upper }}",
    "text index missing": "{{ 'abc'.index('x') }}", "join number": "{{ '-'.join([1]) }}", "split empty": "{{ 'a'.split('') }}",
    "format": "{{ '%s is %d and %.2f %5s|%-5s|%05d %x %r %%' | format('a', 42, 3.14159, 'x', 'y', 42, 255, 'q') }}{{ '%s' % 'x' }}{{ '%s-%s' % (1, none) }}{{ '{} {}'.format('a', 1) }}{{ '{1}{0}'.format('a', 'b') }}{{ '{x:>5}|{y:.1f}|{z:^7}|{w:05d}|{{}}'.format(x='a', y=2.55, z='mid', w=42) }}{{ '%(a)s' | format(a='named') }}{{ '{:*<4}'.format('é') }}{{ '{!r}'.format('a') }}{{ '{:+d} {:x} {:%}'.format(5, 255, 0.5) }}",
    "format bool": "{{ '{:05}|{}|{:>6}'.format(true, true, false) }}{{ '{:05}'.format('ab') }}{{ '%5s|%d' % (true, true) }}", "format list": "{{ '{:>5}'.format([1]) }}",
    "real division": "{{ 1.5 // 0.1 }} {{ 5 % -2.5 }} {{ -1.5 // 1 }} {{ -0.5 % 1 }} {{ 0.0 // -2 }} {{ 7.5 % -2 }}", "slice fill": "{{ [1, 2, 3] | slice(3, 0) | list }}",
    "filter block number": "{% filter length %}abc{% endfilter %}",
    "format missing": "{{ '%s %s' | format('a') }}", "format brace missing": "{{ '{}'.format() }}",
    "dict methods": "{{ {'a': 1}.get('a') }}{{ {'a': 1}.get('b') }}{{ {'a': 1}.get('b', 'd') }}{{ {'a': 1, 'b': 2}.keys() | list }}{{ {'a': 1}.values() | list }}{{ {'a': 1}.items() }}{{ {'a': 1}.items() | length }}{{ {'a': 1}.copy() }}{{ dict(a=1, b=2) }}{{ dict({'x': 1}, y=2) }}{{ dict([('p', 1)]) }}{{ {'a': 1, 'a': 2} }}",
    "list methods": "{{ [1, 2, 1].count(1) }}{{ [1, 2].index(2) }}{{ (1, 1).count(1) }}",
    "forbidden append": "{% set l = [] %}{{ l.append(1) }}", "forbidden pop": "{{ {'a': 1}.pop('a') }}", "forbidden class": "[{{ ''.__class__ }}{{ ''.__class__ is defined }}{{ [].append | default('d') }}]", "undefined int": "{{ missing | int }}", "undefined float": "{{ missing | float }}", "forbidden mro": "{{ [].__class__.__mro__ }}", "forbidden update": "{{ {}.update({'a': 1}) }}",
    "tests": "{{ 1 is number }}{{ 1.5 is float }}{{ 1 is integer }}{{ true is integer }}{{ true is number }}{{ true is boolean }}{{ 'a' is string }}{{ [] is iterable }}{{ 'a' is iterable }}{{ 5 is iterable }}{{ [] is sequence }}{{ {} is sequence }}{{ {} is mapping }}{{ [] is mapping }}{{ none is none }}{{ 3 is odd }}{{ 3 is even }}{{ 9 is divisibleby 3 }}{{ 9 is divisibleby(2) }}{{ 1 is eq 1 }}{{ 1 is sameas 1 }}{{ none is sameas none }}{{ range is callable }}{{ 1 is in [1] }}{{ 1 is not in [1] }}{{ missing is undefined }}{{ true is true }}{{ 1 is true }}{{ false is false }}{{ 2 is gt 1 }}{{ 2 is lessthan 1 }}{{ 'upper' is filter }}{{ 'nope' is test }}{{ range(3) is sequence }}{{ 1 is defined and 2 is defined }}{{ not missing is defined }}{{ 1 is not none }}{{ {'a': 1}.items() is iterable }}{{ 'x' is eq('x') }}",
    "test precedence": "{{ 1 + 1 is even }}{{ 2 is even == true }}{{ not 1 is even or false }}{{ -1 is number }}{{ 'a' ~ 'b' is string }}",
    "filter precedence": "{{ 'a' ~ 'b' | upper }}{{ 1 + '2' | int }}{{ [1, 2] | length > 1 }}{{ 'a' + 'b' | upper }}{{ not '' | trim }}",
    "range": "{{ range(3) | list }}{{ range(1, 3) | list }}{{ range(5, 0, -2) | list }}{{ range(0) | list }}{{ range(3) }}{{ range(3) | length }}{{ range(3)[1] }}{{ range(2, 2) | list }}", "range huge": "{{ range(999999999) | length }}", "range step": "{{ range(1, 2, 0) }}",
    "joiner": "{% set j = joiner('|') %}{{ j() }}a{{ j() }}b{{ j() }}c{% set c = cycler('x', 'y') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}",
    "raise": "{{ raise_exception('no') }}", "raise unused": "{% if false %}{{ raise_exception('no') }}{% endif %}ok",
    "date": "{{ strftime_now('%Y-%m-%d') }} {{ strftime_now('%d %b %Y') }} {{ strftime_now('%B %-d, %A %j %%') }}",
    "messages": "{% for m in messages %}{{ m.role }}={{ m['content'] }}|{{ m.content | length }}|{{ loop.last }}\n{% endfor %}{{ messages[0].role }}{{ messages[-1]['content'] }}{{ messages[1:] | length }}{{ bos_token }}{{ eos_token }}{{ add_generation_prompt }}{{ tools is none }}{{ tools is defined }}",
    "messages print": "{{ messages }}{{ messages | tojson }}{{ messages | map(attribute='role') | join(',') }}",
    "shadow": "{% set messages = messages[1:] %}{{ messages | length }}{% for messages in [1] %}{{ messages }}{% endfor %}{{ messages | length }}",
    "colon": "{% if true: %}a{% endif %}{% for x in [1]: %}{{ x }}{% endfor %}",
    "trailing commas": "{{ [1, 2,] }}{{ {'a': 1,} }}{{ (1, 2,) }}{{ range(2,) | list }}",
    "method or key": "{{ {'get': 1}.get is callable }}{{ {'x': 1}['get'] is defined }}", "key before method": "{{ {'items': [1]}['items'] }}",
    "unicode names": "{% set größe = 3 %}{{ größe }}{{ 'ﬁ' }}",
    "attribute of number": "{{ (1).foo is defined }}",
    "print undefined in list": "{{ [missing] }}",
    "wrong tag": "{% foo %}", "wrong end": "{% if 1 %}{% endfor %}", "stray end": "{% endif %}", "unclosed if": "{% if 1 %}", "unclosed print": "{{ 1", "unclosed comment": "{# a", "unclosed text": "{{ 'a }}", "unknown filter": "{{ 1 | nope }}",
    "unknown test": "{{ 1 is nope }}", "stray brace": "{{ } }}", "two values": "{{ 1 2 }}", "empty print": "{{ }}", "empty if": "{% if %}{% endif %}", "set nothing": "{% set %}", "set constant": "{% set true = 1 %}",
    "keyword order": "{{ dict(a=1, 2) }}", "chained tests": "{{ 1 is number is number }}", "leading zero": "{{ 007 }}", "lone operator": "{{ * 2 }}", "half bracket": "{{ (1 }}", "break outside": "{% break %}",
    "none concat": "{{ 'a' + none }}", "list plus tuple": "{{ [1] + (2,) }}", "list plus list": "{{ [1] + [2] }}{{ (1,) + (2,) }}", "call text": "{{ 'a'() }}", "int items": "{{ 5 | items | list }}", "length number": "{{ 5 | length }}", "list key": "{{ {[1]: 2} }}",
    "chatml": "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "alternate": "{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}{% if m['role'] == 'user' %}{{ '[INST] ' ~ m['content'] | trim ~ ' [/INST]' }}{% else %}{{ ' ' ~ m['content'] | trim ~ ' ' ~ eos_token }}{% endif %}{% endfor %}",
}
OWN_INPUTS = ["one", "system turns", "unicode", "call"]  # for templates that speak of messages; the others are rendered once


def variables(messages, tools, extra, prompt):
    return {"messages": messages, "tools": tools, "documents": None, "add_generation_prompt": prompt, "bos_token": "<s>", "eos_token": "</s>", **extra}


def main():
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parents[1].parent / "shared/data/chat_templates"
    own = []
    for name, source in OWN.items():
        inputs = OWN_INPUTS if "messages" in source else ["one"]
        texts = [render(source, variables(CONVERSATIONS[i], None, {}, True)) for i in inputs]
        own.append({"name": name, "source": source, "inputs": inputs, "texts": texts})
    shared = []
    for path in sorted(folder.glob("*.jinja")):
        source = path.read_text()
        cases = []
        for name, messages in CONVERSATIONS.items():
            for tools in (None, TOOLS):
                for extra in [None, *EXTRAS]:
                    if extra and name not in ("one", "system turns", "call", "think"):
                        continue
                    for prompt in (False, True):
                        text = render(source, variables(messages, tools, EXTRAS.get(extra, {}), prompt))
                        digest = None if text is None else hashlib.sha256(text.encode()).hexdigest()[:12]
                        cases.append([name, tools is not None, extra, prompt, digest, 0 if text is None else len(text.encode())])
        shared.append({"file": path.name, "cases": cases})
    document = {"jinja2": jinja2.__version__, "now": NOW, "conversations": CONVERSATIONS, "tools": TOOLS, "extras": EXTRAS, "own": own, "shared": shared}
    text = json.dumps(document, ensure_ascii=True, separators=(",", ":"))
    text = text.replace('{"name":', '\n{"name":').replace('{"file":', '\n{"file":').replace(',"own":', '\n,"own":')
    (HERE / "template_golden.json").write_text(text + "\n")
    refused = sum(c[4] is None for t in shared for c in t["cases"])
    print(f"{len(own)} templates of our own, {sum(len(t['cases']) for t in shared)} cases of {len(shared)} shared ones ({refused} refused), {len(text)} bytes")
    for entry in own:
        if None in entry["texts"]:
            print("refused:", entry["name"])


if __name__ == "__main__":
    os.environ["TZ"] = "UTC"
    main()
