"""Constructs of chat templates, rendered by transformers' own function."""

import json
import os

from transformers.utils.chat_template_utils import render_jinja_template

MESSAGES = [
    {"role": "system", "content": "Be brief.\nBe kind."},
    {"role": "user", "content": "  Two  words, caf\u00e9 <b>'quoted'</b>! "},
    {"role": "assistant", "content": "<think>\nhm\n</think>\n\nYes, yes."},
    {"role": "user", "content": "a,b,,c"},
]

# One expression each; `m` are the messages, `c` the content of the second, `t` of the third, `l` of the last.
EXPRESSIONS = [
    # % on texts
    "'%s and %s' % ('a', 1)", "'%s!' % c", "'%d%%' % 5", "'%.2f|%5d|%-5s|%05d|%x' % (1.5, 42, 'ab', 7, 255)",
    "'<|%s|>' % m[0]['role']", "'%s' % m[0].role + '.'", "'a' ~ '%s' % c | trim", "\"it's %s\" % ('x' | upper)",
    "'%(role)s: %(content)s' % m[3]", "('%s' % 1) ~ 7 % 4", "'100%' ~ 5 % 3", "'%s' % ('x',)",
    "'%s' % [1, 'a']", "'%s' % none",
    # tojson
    "m[0] | tojson", "m | tojson(indent=2)", "m[0] | tojson(separators=(',', ':'))", "m[3] | tojson(sort_keys=true)",
    "c | tojson(ensure_ascii=true)", "{'b': [1, 2.0, {}], 'a': []} | tojson(indent=4, sort_keys=true)",
    "{'b': 1, 'a': none} | tojson(indent=2, separators=(',', ': '))", "'\U0001f600\\x7f\\u2028' | tojson",
    "'\U0001f600' | tojson(true)", "{'a': 1} | tojson(indent=0)", "[1, true, 1e20, 0.1, 1e-7, 100000000000000000000] | tojson",
    "{1: 'a', none: 'b', true: 'c'} | tojson", "(1, 2) | tojson", "[] | tojson(indent=2)",
    "{'a': {'b': [1]}} | tojson(indent='--')",
    # methods of texts
    "l.rsplit(',', 1)", "l.rsplit(',')", "l.rsplit(',', 1)[-1]", "'a b  c'.rsplit()", "'a b  c'.rsplit(none, 1)",
    "l.split(',', 2)", "l.split(',')[-1]", "c.split()", "c.split('<b>', 1)[1]", "'a  b c'.split(none, 1)",
    "l.index('b')", "l.rindex(',')", "l.find('b')", "l.rfind(',')", "l.find('zz')", "c.count('o')",
    "t.split('</think>')[-1].lstrip('\\n')", "t.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n')",
    "c.strip()", "c.lstrip() ~ '|'", "c.rstrip('! ')", "l.partition(',')", "l.rpartition(',')", "l.partition('x')",
    "'abc'.removeprefix('a')", "'abc'.removesuffix('c')", "'abc'.center(7, '*')", "'7'.zfill(3)", "'-7'.zfill(4)",
    "'ab'.ljust(4) ~ '|'", "'ab'.rjust(4, '.')", "'aBc'.casefold()", "'hello world'.title()",
    "'HELLO wOrld'.capitalize()", "m[0].content.splitlines()", "'a\\nb'.splitlines(true)",
    "'-'.join(['a', 'b'])", "'{} {}'.format('a', 1)", "'{0}{1}{0}'.format('a', 'b')", "'{x}'.format(x=3)",
    "'a,b'.replace(',', ';')", "'aaa'.replace('a', 'b', 2)", "'abc'.startswith(('x', 'a'))", "'abc'.endswith('bc')",
    "'12'.isdigit()", "'1.5'.isnumeric()", "'a1'.isalnum()", "' '.isspace()",

    # lists and dicts
    "[1, 2, 1].index(2)", "[1, 2, 1].count(1)", "m[0].get('x', 'none')", "m[0].get('role')", "m[0].keys() | list",
    "m[0].values() | list", "m[0].items() | list", "{'a': 1}.get('b') is none", "'role' in m[0]", "dict(a=1, b='x')",
    "m[1:] | length", "m[::-1] | map(attribute='role') | join(',')", "m[-1].role", "[1, 2] + [3]", "(1, 2) + (3,)", "'ab' * 2",
    # filters and tests
    "c | wordcount", "c | trim", "c | length", "'a' | upper", "['b', 'a'] | sort", "m | map(attribute='role') | list",
    "m | selectattr('role', 'equalto', 'user') | map(attribute='content') | list | length", "m | rejectattr('role', 'eq', 'user') | list | length",
    "[1, 2, 3] | first ~ [1, 2] | last", "none | default('d')", "x | default('d')", "'' | default('d', true)", "3.7 | int",
    "'12' | int + 1", "2 | float", "3.14159 | round(2)", "'a' is string", "{} is mapping", "[] is sequence", "x is defined", "none is none",
    "true", "none", "[true, none, 'a', 1.0]", "{'a': 'b', 'c': [1]}", "'a' if true else 'b'", "('a' if false) ~ '.'", "1 / 2", "7 // 2", "-7 // 2",
    "-7 % 3", "2 ** 3", "1.0", "1e3", "'a' ~ 1 ~ none", "'%s' | format('x')", "'a\\nb' | indent(2)", "'abc' | replace('b', 'x')",
    "'<b>' | e", "'<b>' | escape", "'abc' | reverse", "'abc' | list", "[[1, 2], [3]] | sum(start=[])",
    "[1, 2] | sum", "[1, 2, 3] | min ~ [1, 2, 3] | max", "[1, 1, 2] | unique | list", "m | groupby('role') | length", "[1, 2, 3] | batch(2) | list",
    "{'b': 1, 'a': 2} | dictsort", "{'b': 1} | items | list", "'hello world' | capitalize", "'hello world' | title",
    "'x' | string", "[1, 2] | string", "'abc'[1]", "'abc'[-1]", "'abc'[0:2]", "'abc'[::-1]",
    "'a' in 'abc'", "'A' == 'a'", "not true", "1 < 2 < 3", "range(3) | list", "range(1, 6, 2) | list", "namespace(a=1).a", "m | map('length') | list", "'b' > 'a'",
    "'caf\u00e9' | length", "'a' 'b'", "m[0]['content'][:2]", "m[0].role == 'system' and 'y' or 'n'", "(1, 2)", "('a',)", "3 is odd", "3 is divisibleby 3", "'ab' is in ['ab']", "m[0] is mapping and m[0] is not string", "callable is defined", "1 is number", "1 is integer", "1.5 is float", "true is boolean", "true is true", "m is iterable", "'a' is lower",
    "strftime_now is defined", "['a', 'b'] | join('|', attribute=none)", "'\\u00e9'", "'a\\\\b'", "\"a'b\" ~ 'c\"d'", "loop is defined",
]

# Whole templates.
TEMPLATES = [
    "{% for m in messages %}\n  {% if loop.first %}\n[{{ m.role }}]\n  {% elif loop.last -%}\n    last {{ loop.index }}/{{ loop.length }}\n  {%- else %}\n{{ loop.index0 }} {{ loop.previtem.role }}>{{ loop.nextitem.role }}\n  {% endif %}\n{% endfor %}",
    "{%- set ns = namespace(n=0, last=none) -%}{%- for m in messages -%}{%- if m.role == 'user' -%}{%- set ns.n = ns.n + 1 -%}{%- set ns.last = m -%}{%- endif -%}{%- endfor -%}{{ ns.n }} {{ ns.last.content }}",
    "{% macro turn(m, end='') %}<{{ m.role }}>{{ m.content | trim }}{{ end }}{% endmacro %}{% for m in messages %}{{ turn(m, end='\\n') }}{% endfor %}",
    "{% for k, v in messages[0].items() %}{{ k }}={{ v }};{% endfor %}{% for m in messages if m.role == 'user' %}{{ loop.index }}{% else %}none{% endfor %}",
    "{% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}{% if loop.last %}{% break %}{% endif %}{{ m.role }} {% endfor %}",
    "{% set text %}{{ messages[0].role }}{% endset %}{{ text | upper }}{# no #}{% raw %}{{ raw }}{% endraw %}",
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% endif %}{% for m in loop_messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('alternate') }}{% endif %}{{ '<s>' + '[INST] ' + m['content'].strip() + ' [/INST]' }}{% endfor %}",
    "{% filter upper %}{{ messages[0].role }}{% endfilter %}",
    "{% with a = 1, b = 'x' %}{{ a }}{{ b }}{% endwith %}{{ a is defined }}",
    "{{- '<a>' -}}\n\n  {{ 'b' }}  \n{%+ if true %}  c{% endif +%}\nd\n",
    "{% for m in messages recursive %}{{ m.role[0] }}{% endfor %}{% for a in [[1, [2]], [3, []]] %}{{ a[0] }}{% for b in a[1] %}{{ b }}{% endfor %}{% endfor %}",
    "{% set (a, b) = (1, 2) %}{{ a + b }}{% for a, b in [(1, 2), (3, 4)] %}{{ a * b }},{% endfor %}",
    "{% macro m(x) %}{{ caller() if caller else x }}{% endmacro %}{% call m(1) %}inside{% endcall %}{{ m(2) }}",
    "{% generation %}{{ '%s' % messages[0].role }}{% endgeneration %}",
    "{% set d = {'a': 1} %}{{ d.a }}{{ d['b'] is defined }}{{ d.items() | length }}{% if 'a' in d %}y{% endif %}{{ d }}",
    "{% set s = '%s' %}{{ s % 'x' }}",
]


HEAD = "{%- set m = messages %}{%- set c = m[1].content %}{%- set t = m[2].content %}{%- set l = m[3].content -%}"


def render(template):
    texts, _ = render_jinja_template([MESSAGES], chat_template=template, add_generation_prompt=True)
    return texts[0]


def rows(pairs):
    return "[\n" + ",\n".join("    " + json.dumps(pair, ensure_ascii=False) for pair in pairs) + "\n  ]"


def make(out):
    expressions = [(e, render(HEAD + "{{ " + e + " }}")) for e in EXPRESSIONS]
    templates = [(t, render(t)) for t in TEMPLATES]
    with open(os.path.join(out, "files", "templates.json"), "w", encoding="utf-8") as f:
        f.write('{\n  "messages": ' + json.dumps(MESSAGES, ensure_ascii=False) + ',\n  "head": ' + json.dumps(HEAD))
        f.write(',\n  "expressions": ' + rows(expressions) + ',\n  "templates": ' + rows(templates) + "\n}\n")
