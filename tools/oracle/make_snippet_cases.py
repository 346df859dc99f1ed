"""Writes tests/templates/snippets.json: small template texts and what jinja2 makes of them, to hold the
template engine to jinja2's semantics construct by construct. Usage: make_snippet_cases.py"""

import json
import pathlib

import jinja_oracle

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONTEXT = {
    "n": 7, "neg": -7, "f": 2.5, "z": 0, "t": True, "none": None, "s": "Hello World", "blank": "  a b \n",
    "uni": "\u00c4\u00df \U0001f600\u4f60 \u0130\u03a3", "html": "<a href='x'>&\"</a>", "empty": "", "xs": [3, 1, 2],
    "words": ["b", "A", "c", "a"], "nested": [[1, 2], [3]], "e": [], "d": {"b": 1, "a": 2, "C": 3},
    "ed": {}, "lines": "one\n\ntwo\r\nthree\n", "msgs": [
        {"role": "user", "content": "hi", "n": 2}, {"role": "assistant", "content": None, "n": 1},
        {"role": "user", "content": "there", "n": 3, "x": {"y": [10, 20]}}],
    "quote": "it's \"q\" \\ \t\x00\x7f\u00a0\u200b\ud7ff", "mixed": [1, 1.0, True, "1", None],
    "key": {"items": 5, "__x__": 1, "with space": 2}, "big": 9007199254740993, "keys2": {"1": "s"},
}

EXPRESSIONS = """
1 + 2 * 3 - 4 / 2
7 // 2, -7 // 2, 7 // -2, 7.5 // 2, -7.5 // 2
7 % 3, -7 % 3, 7 % -3, 7.5 % 2, -7.5 % 2, 1e300 % 7
2 ** 10, 2 ** -1, 2.0 ** 0.5, -2 ** 2, 2 ** 3 ** 2
1 / 3, 1e16, 1e15, 1e-5, 0.0001, 123456789.123, 1e22, 1.0, -0.0, 1e400, -1e400
0x1f + 0b101 + 0o17, 1_000, 1_0.5, 1e3
n / 0
n % 0
n // 0.0
big + 1, big * 10
true + 1, true * 'ab', 'ab' * 2, [1] * 3, 2 * (1, 2), 'x' * -1
'a' + 1
'a' + 'b' ~ 1 ~ none ~ true ~ 1.5
[1] + [2], (1,) + (2,)
[1] + (2,)
-n, +n, -f, --n, -true
-'a'
1 < 2 < 3, 1 < 3 < 2, 1 == 1.0, 1 == true, '1' == 1, none == none
'a' < 'b', [1, 2] < [1, 3], (1,) < (1, 2), 'a' < 'B'
1 < 'a'
none < 1
[1, 2] == [1, 2], (1, 2) == [1, 2], {'a': 1} == {'a': 1.0}, {'a': 1} != {'b': 1}
1 in [1, 2], 'a' in 'cat', 'b' in d, 5 not in xs, '' in 'x', 'x' in ed, 1.0 in xs
1 in 'a'
[1] in d
1 in none
1 in nope
not true, not '', not e, not ed, not 0.0, not none, not nope
true and 5, 0 and 5, 0 or 'x', none or e or 'last', 1 or nope.x, nope or 2
1 if true else 2, 1 if false else 2, 1 if false, (1 if false) is defined
'a' if n > 5 else 'b' if n > 3 else 'c'
(1, 2), (1,), (), 1, [1, 'a', none, true, 2.5], {'a': [1], 2: 'b', none: {}}
{'a': 1, 'a': 2, 1: 'x', true: 'y', 1.0: 'z'}
[1, 2, ], {'a': 1, }, (1, 2, )
quote
[quote]
['\\u0000', '\\xe9', 'é', '\\u200b', '\\U0001f600', "'", '"', "'\\""]
'a\\nb\\tc\\\\d\\'e\\"f\\x41\\u0042\\101\\q'
"a" "b" 'c'
s[0], s[-1], s[1:3], s[::-1], s[::2], s[-3:], s[:-3], s[10:2:-2], s[100:], s[-100:2]
s[100]
uni[0], uni[::-1], uni[3], uni | length, uni[1:4]
xs[0], xs[-1], xs[5], xs[1:], xs[::-1], xs[-2:], xs[:1], xs[2:0:-1], xs[true]
xs['0']
xs[0:5:0]
xs.0, nested.0.1, nested[1][0]
(1, 2, 3)[1:], (1, 2, 3)[::-1]
d.a, d['b'], d.missing, d['missing'], d.C, d[1]
d.missing.more
d['missing']['more']
nope
nope.x
nope['x']
nope + 1
1 + nope
nope ~ 'x'
nope()
nope | length, nope | list, nope | upper, nope | join(','), nope | string, nope | trim
nope | int
nope | float
nope | abs
nope == nope, nope == none, nope != 1
nope < 1
-nope
nope[1:2]
none.x, none['x'], n.x, s.x, xs.x, f.x
none.x.y
key.items is callable, key['items'], key.get('items'), key['with space']
key.__x__, key['__x__'], key.__class__, key['__class__'], s.__class__, xs.__class__
s.__class__.__mro__
s.__class__ is defined, ''.__class__ is undefined, s['upper']()
xs.append(4)
d.update({'z': 1})
d.pop('a')
d.clear is defined, xs.append is defined
d.items(), d.keys(), d.values(), d.get('a'), d.get('q'), d.get('q', 9)
d.items() | list, d.keys() | list, d.values() | list, d | list
d.items() | length, d.copy()
d.items()[0]
d.get()
n()
s()
'abc'.nope()
xs | length, s | length, d | length, d | count, e | length, () | length
n | length
none | length
xs | map('string') | length
s | upper, s | lower, s | title, s | capitalize, 'hELLO wORLD' | capitalize
'foo-bar (baz) [qux] {a} <b> it\\'s x_y' | title, "it's o'clock x-y" .title()
uni | upper, uni | lower, uni.title(), uni | capitalize, 'ΑΣ ΑΣΑ Σ' | lower, 'ﬁ ŉ' | upper
n | upper, none | lower, true | title
blank | trim, '[' ~ blank.strip() ~ ']', '[' ~ blank.lstrip() ~ ']', '[' ~ blank.rstrip() ~ ']'
'xxaxx' | trim('x'), 'xyaxy'.strip('yx'), 'xyaxy'.lstrip('x'), 'abc'.rstrip('c'), ' a '.strip(none)
'\\u00a0\\u3000a\\u2028\\x1c' | trim | length, '\\u200ba' | trim | length
n | trim, none | trim
s | replace('o', '0'), s | replace('o', '0', 1), 'aaa' | replace('', '-'), 'aaa'.replace('a', 'b', 2), 'é'.replace('', '.')
n | replace(7, 8), 'a' | replace('a', 'b', 0)
s | default('x'), nope | default('x'), nope | d, empty | default('x'), empty | default('x', true), none | default('x', boolean=true)
none | default('x')
xs | join, xs | join(','), words | join(', '), msgs | join('|', attribute='role'), 'abc' | join('-'), d | join(',')
n | join
xs | first, xs | last, s | first, s | last, e | first, e | last, d | first, d | last
e | first | upper
xs | map('string') | last
n | first
s | list, xs | list, (1, 2) | list, d | list, range(3) | list
n | list
'12' | int, ' 12 ' | int, '1_2' | int, '12.7' | int, 'x' | int, 'x' | int(5), '0x1f' | int(0, 16), '1f' | int(base=16), '0b11' | int(0, 2), f | int, -2.7 | int, none | int, xs | int, '' | int, '1e3' | int, '-5' | int, '+5' | int, '- 5' | int, true | int
'1.5' | float, 'x' | float, 'x' | float(2.0), '1e5' | float, ' 2 ' | float, n | float, none | float, '1_0.0' | float, '.5' | float, '5.' | float
f | round, 3.5 | round, 2.675 | round(2), 1.25 | round(1), n | round, 12.34 | round(1, 'ceil'), 12.34 | round(1, 'floor'), 1234.5 | round(-2), 1250 | round(-2), -2.5 | round, 1.005 | round(2), 7 | round(0, 'floor')
f | round(0, 'x')
neg | abs, -2.5 | abs, true | abs
'a' | abs
xs | sum, e | sum, msgs | sum(attribute='n'), xs | sum(start=10), [1.5, 2] | sum, [[1], [2]] | sum(start=[])
['a'] | sum
xs | min, xs | max, words | min, words | max, e | max, msgs | max(attribute='n'), words | min(case_sensitive=true), [2, 1.5] | min
[1, 'a'] | max
xs | sort, xs | sort(reverse=true), words | sort, words | sort(case_sensitive=true), msgs | sort(attribute='n') | map(attribute='n') | list, s | sort | join, d | sort
[1, 'a'] | sort
msgs | sort(attribute='role,n') | map(attribute='n') | join(',')
words | unique | list, [1, 2, 1, 3] | unique | list, words | unique(case_sensitive=true) | list, [1, true, 1.0, '1'] | unique | list
xs | reverse | list, s | reverse, d | reverse | list, (1, 2) | reverse | list
xs | reverse is iterable, (xs | reverse)[0] is defined
d | items | list, ed | items | list, nope | items | list
xs | items | list
d | dictsort, d | dictsort(true), d | dictsort(by='value'), d | dictsort(reverse=true), d | dictsort(false, 'value', true)
xs | dictsort
xs | map('string') | list, words | map('upper') | join, msgs | map(attribute='role') | list, msgs | map(attribute='x.y.1') | list, msgs | map(attribute='zz', default='-') | list, words | map('replace', 'b', 'x') | list
xs | map | list
xs | map('nofilter') | list
xs | select | list, [0, 1, '', 'a', none] | select | list, xs | select('odd') | list, xs | select('gt', 1) | list, xs | select('in', [1, 2]) | list
xs | reject('odd') | list, [0, 1] | reject | list
msgs | selectattr('content') | map(attribute='n') | list, msgs | selectattr('role', 'equalto', 'user') | list | length, msgs | rejectattr('role', 'eq', 'user') | map(attribute='role') | list, msgs | selectattr('x', 'defined') | list | length, msgs | rejectattr('content', 'none') | list | length, msgs | selectattr('n', '>', 1) | map(attribute='n') | list
xs | select('notest') | list
xs | batch(2) | list, xs | batch(2, '-') | list, range(7) | slice(3) | list, range(7) | slice(3, 'x') | list
msgs | groupby('role') | map('first') | list, msgs | groupby('role') | map(attribute=1) | map('length') | list
words | groupby('x')
lines | indent, lines | indent(2), lines | indent(2, true), lines | indent(2, blank=true), lines | indent('> '), 'a' | indent, '' | indent(2, true)
n | indent
s | truncate(8), s | truncate(8, true), s | truncate(5, leeway=0), s | truncate(8, end='~', leeway=0), 'abc def ghi jkl' | truncate(9, false, '', 0)
s | center(20), s | center(3), '[' ~ ('ab' | center(5)) ~ ']', '[' ~ 'abc'.center(6, '*') ~ ']', 'x'.ljust(3, '.'), 'x'.rjust(3), '-5'.zfill(4), '5'.zfill(3)
s | wordcount, 'a-b c_d 1' | wordcount
html | e, html | escape, html | e | e, html | safe, html | forceescape, (html | e) ~ '<', (html | e) + '<', '<' + (html | safe), n | e
(html | e) is escaped, html is escaped, html | e | length, html | e | forceescape
[html | e]
s | string, n | string, none | string, xs | string, (n | string) is string, f | string ~ '!'
'a b/c?d=é&~' | urlencode
'%s is %d' | format('x', 5), '%5.2f|%-5s|%05d|%x|%X|%o|%e|%g|%%|%+d|% d|%r|%c' | format(3.14159, 'ab', 42, 255, 255, 8, 12345.678, 0.0001, 5, 5, 'q', 65), '%(a)s' | format(a=1)
'%s %s' % (1, 2), '%s' % 'x', '%d%%' % 50, '%s' % [1], '%.1f' % 2.25, '%5s|%-5s|' % ('a', 'b'), '%.2s' % 'abc', '%i' % 2.9, '%s' % none
'%s' % (1, 2)
'%d' % 'x'
'%s %s' % 1
'{} {}'.format(1, 'a'), '{0} {1} {0}'.format('x', 'y'), '{a}'.format(a=5), '{:>5}|{:<5}|{:^5}|'.format('a', 'b', 'c'), '{:05d}|{:+d}|{:,}|{:x}|{:#x}'.format(42, 5, 1234567, 255, 255), '{:.2f}|{:10.3f}|{:e}|{:%}'.format(3.14159, 2.5, 12345.678, 0.25), '{!r}'.format('a'), '{{}}'.format(), '{0[a]}'.format({'a': 1}), '{:*^7}'.format('x'), '{:.2}'.format('abc')
'{}'.format()
'{x}'.format(y=1)
d | tojson, xs | tojson, none | tojson, true | tojson, f | tojson, s | tojson, html | tojson, uni | tojson, quote | tojson
d | tojson(indent=2), nested | tojson(indent=4), ed | tojson(indent=2), e | tojson(indent=2), {'a': []} | tojson(indent=2), msgs | tojson(indent=1)
uni | tojson(ensure_ascii=true), d | tojson(sort_keys=true), d | tojson(separators=(',', ':')), d | tojson(indent='--'), (1, 2) | tojson, {1: 2, none: 3, true: 4, 1.5: 5} | tojson, [1e22, 1e-7, -0.0, 1.0, 1e400] | tojson
nope | tojson
range(3) | tojson
d.items() | tojson
range(5) | list, range(2, 5) | list, range(5, 0, -2) | list, range(0), range(3), range(1, 3), range(0, 10, 3), range(5)[1], range(5)[1:3] | list, range(-3) | list
range(1000000)
range('a')
range(1, 2, 0)
range()
dict(a=1, b=2), dict({'x': 1}, y=2), dict([('a', 1)]), dict()
namespace(a=1).a, namespace({'b': 2}).b, namespace(a=1).zz
namespace(_a=1)
s.split(), s.split('o'), 'a,b,,c'.split(','), 'a,b,c'.split(',', 1), ' a  b '.split(), ' a  b  c '.split(none, 1), 'a,b,c'.rsplit(',', 1), ' a b c '.rsplit(none, 1), ''.split(), ''.split(','), 'aXXb'.split('XX')
'a'.split('')
s.startswith('He'), s.startswith(('x', 'H')), s.endswith('ld'), s.endswith('x'), s.startswith('el', 1), s.startswith('')
s.startswith(1)
s.find('o'), s.find('zz'), s.rfind('o'), s.find('o', 5), uni.find('你'), s.index('W'), s.count('o'), 'aaa'.count(''), 'aaaa'.count('aa')
s.index('zz')
', '.join(['a', 'b']), ''.join([]), '-'.join('abc'), ','.join(d)
','.join([1])
lines.splitlines(), lines.splitlines(true), 'a-b-c'.partition('-'), 'a-b-c'.rpartition('-'), 'a'.partition('-'), 'abc'.removeprefix('a'), 'abc'.removesuffix('c'), 'abc'.removeprefix('x')
'12'.isdigit(), ''.isdigit(), 'a1'.isalnum(), 'ab'.isalpha(), ' '.isspace(), 'AB'.isupper(), 'ab'.islower(), 'Ab'.isupper(), '1'.isupper()
xs.count(1), xs.index(2), (1, 2, 1).count(1)
xs.index(9)
n is odd, n is even, z is even, n is divisibleby 7, n is divisibleby(3), f is odd
'a' is odd
n is defined, nope is defined, nope is undefined, n is not defined, nope is not defined
none is none, n is none, n is not none, s is string, n is string, nope is string
n is number, f is number, t is number, s is number, n is integer, t is integer, f is integer, f is float, n is float, t is boolean, n is boolean, t is true, 1 is true, false is false, 0 is false
d is mapping, xs is mapping, xs is iterable, s is iterable, n is iterable, none is iterable, nope is iterable, d is iterable, xs is sequence, s is sequence, d is sequence, n is sequence, nope is sequence, (1,) is sequence, range(2) is sequence, d.items() is sequence, d.items() is iterable
'abc' is lower, 'ABC' is upper, 'Abc' is lower, '1' is lower, '' is upper, n is lower
n is eq 7, n is equalto(7), n is ne 3, n is gt 5, n is lessthan 9, n is ge 7, n is le 7, n is sameas 7, none is sameas none, n is in [7, 8], 'a' is in 'cat', n is not in [1]
range is callable, n is callable, 'upper' is filter, 'zz' is filter, 'odd' is test
n is defined and n is odd, not n is even, n is odd or nope.x, n is odd == true, n is divisibleby 2 + 5
n is nosuchtest
n | nosuchfilter
n | upper.x
1 if true else n | nosuchfilter
n is eq
s | replace('a')
s | replace
s | upper(1)
s.upper(1)
s | trim(chars='H')
s | default(value=1)
dict(a=1, **{'b': 2}), dict(**d), namespace(**{'q': 1}).q
range(*[1, 4]) | list, '{} {}'.format(*xs[:2]), '{a}'.format(**{'a': 1})
msgs[0].role, msgs[-1].x.y[0], msgs[1].content, msgs[0].x.y
msgs[0].x is defined, msgs[0].x.y is defined
msgs | map(attribute='content') | select | list, msgs[-1]['x']['y'] | last
s.replace('l', 'L').split(' ')[-1].upper()[::-1]
(s | upper).lower(), s | upper | lower | length > 3, s|length * 2, -n|abs, (n, f)|max
[1, 2][0], {'a': 5}['a'], {'a': 5}.a, 'abc'[1], (1, 2).0
mixed | unique | list, mixed | map('string') | list, mixed
strftime_now('%Y-%m-%d %H:%M'), strftime_now('%d %b %Y')
raise_exception('boom ' ~ n)
raise_exception()
loop
1 2
1 +
(1
1)
[1
{'a' 1}
'open
a..b
a b
f(x=1, 2)
f(x=1, x=2)
1 is
| upper
1 |
not
@
a if
a[1
a.
{{ 1 }}
3 not in
""".strip("\n").split("\n")

TEMPLATES = [
    "", "plain", "a\nb\n", "a\n\n", "\n", "a\r\nb\rc", "{", "{ {", "a}}b", "%}", "#}", "{{ 1 }}\n", "{{ 1 }}\n\n",
    "  {% if t %}\n  x\n  {% endif %}\n", "a {% if t %} b {% endif %} c", "a\n  {%- if t %}\n b\n {%- endif %}\n c",
    "a  {{- 1 -}}  b", "a\n{{- 1 }}\n b", "  {{ 1 }}  \n x", "\t{% if t %}x{% endif %}\ny", "  {%+ if t %}x{% endif %}",
    "{% if t +%}\nx{% endif %}", "{% if t -%}\n\n  x{% endif %}", "a {# c #} b", "a\n  {# c #}\nb", "a {#- c -#} b",
    "{#- c #}\nx", "{# {{ x }} {% if %} #}y", "{# open", "{# a #} #}", "{#-#}x", "a{#+ x +#}\nb", "{{- '' }}  x", "x  {%- set a = 1 -%}  y",
    "{% raw %}{{ x }}{% if %}{% endraw %}", "a {%- raw -%} {{ x }} {%- endraw -%} b", "{% raw %}\nx\n{% endraw %}\ny", "  {% raw %}\n  x\n  {% endraw %}\ny",
    "{% raw %}open", "{%raw%}{%endraw%}", "{{ '}}' }}{{ \"{{\" }}{{ {'a': {'b': 1}} }}{{ {'a':{}}}}", "{% if '%}' %}x{% endif %}",
    "{% if t %}1{% else %}2{% endif %}", "{% if z %}1{% elif t %}2{% else %}3{% endif %}", "{% if z %}1{% elif z %}2{% elif n %}3{% endif %}", "{% if nope %}1{% else %}2{% endif %}",
    "{% if n, %}tuple{% endif %}", "{% if t %}", "{% if %}x{% endif %}", "{% endif %}", "{% else %}", "{% if t %}{% endfor %}", "{% nope %}", "{% %}", "{% if t %}a{% else %}b{% else %}c{% endif %}",
    "{% for x in xs %}{{ x }}{% endfor %}", "{% for x in xs %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }} {% endfor %}",
    "{% for x in xs %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }} {% endfor %}", "{% for x in xs %}{{ loop.previtem is defined }}{{ loop.nextitem | default('-') }} {% endfor %}",
    "{% for x in e %}x{% else %}none{% endfor %}", "{% for x in nope %}x{% else %}none{% endfor %}", "{% for x in n %}x{% endfor %}", "{% for x in none %}x{% endfor %}",
    "{% for c in s %}{{ c }}.{% endfor %}", "{% for k in d %}{{ k }}{% endfor %}", "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k, v in d | items %}{{ k }}={{ v }};{% endfor %}", "{% for (a, b) in [(1, 2), (3, 4)] %}{{ a + b }} {% endfor %}",
    "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}", "{% for a, b in xs %}{% endfor %}", "{% for a, b in [(1, 2, 3)] %}{% endfor %}", "{% for x in xs %}{% continue %}{% else %}none{% endfor %}", "{% for x in xs %}{% if x == 3 %}{% break %}{% endif %}{{ x }}{% else %}none{% endfor %}",
    "{% for x in xs if x > 1 %}{{ loop.index }}:{{ x }}/{{ loop.length }} {% endfor %}", "{% for x in xs if x > 9 %}x{% else %}none{% endfor %}", "{% for x in xs if loop.first %}{{ x }}{% endfor %}",
    "{% for x in (xs if t else e) %}{{ x }}{% endfor %}", "{% for x in 1, 2, 3 %}{{ x }}{% endfor %}", "{% for x in [1, 2, 3][1:] %}{{ x }}{% endfor %}", "{% for x in xs | sort %}{{ x }}{{ ',' if not loop.last }}{% endfor %}",
    "{% for x in xs %}{% for y in xs %}{{ loop.index }}{% endfor %}{{ loop.index }} {% endfor %}", "{% for x in xs %}{% set outer = loop %}{% for y in [1, 2] %}{{ outer.index }}{{ loop.index }} {% endfor %}{% endfor %}",
    "{% for x in range(5) %}{% if x == 3 %}{% break %}{% endif %}{{ x }}{% endfor %}", "{% for x in range(5) %}{% if x is odd %}{% continue %}{% endif %}{{ x }}{% endfor %}", "{% for x in xs %}{% break %}{% else %}none{% endfor %}", "{% for a in xs %}{% for b in xs %}{% if b == 1 %}{% break %}{% endif %}{{ a }}{{ b }} {% endfor %}{% endfor %}",
    "{% for x in xs %}{{ loop.cycle('a', 'b') }}{% endfor %}", "{% for x in [1, 1, 2] %}{{ loop.changed(x) }}{% endfor %}", "{% for x in xs %}{{ loop | length }}{% endfor %}", "{{ loop is defined }}{% for x in xs %}{% endfor %}{{ x is defined }}{{ loop is defined }}",
    "{% for x in xs | map('string') %}{{ x }}{{ loop.last }}{% endfor %}", "{% set g = xs | map('string') %}{{ g | list }}{{ g | list }}", "{% set g = xs | select %}{% if g %}yes{% endif %}{{ g | first }}",
    "{% for x in xs %}", "{% for x xs %}{% endfor %}", "{% for 1 in xs %}{% endfor %}", "{% for x.y in xs %}{% endfor %}", "{% for x in %}{% endfor %}", "{% for true in xs %}{% endfor %}",
    "{% set a = 1 %}{{ a }}", "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set a = 1, 2 %}{{ a }}", "{% set (a, b) = (1, 2) %}{{ a }}", "{% set a, b = xs %}", "{% set a = b = 1 %}", "{% set 1 = 2 %}", "{% set none = 2 %}", "{% set a %}x{{ n }}{% endset %}[{{ a }}]",
    "{% set a | upper %}x{{ n }}{% endset %}{{ a }}", "{% set a | replace('x', 'y') | upper %}xz{% endset %}{{ a }}", "{% set a %}{% set b = 1 %}{% endset %}{{ b is defined }}", "{% set a = 1 %}{% for x in xs %}{% set a = a + x %}{{ a }} {% endfor %}{{ a }}",
    "{% if t %}{% set q = 5 %}{% endif %}{{ q }}", "{% if z %}{% set q = 5 %}{% endif %}{{ q is defined }}", "{% set ns = namespace(c=0) %}{% for x in xs %}{% set ns.c = ns.c + x %}{% endfor %}{{ ns.c }}", "{% set ns = namespace() %}{% set ns.a %}b{% endset %}{{ ns.a }}", "{% set d.x = 1 %}", "{% set nope.x = 1 %}", "{% set ns = namespace() %}{% set ns._x = 1 %}", "{% set ns = namespace(a=1) %}{{ ns['a'] }}{{ ns.b is defined }}", "{% set ns = namespace(a=1) %}{{ 'a' in ns }}", "{% set a = 1 %}{% set a = a + 1 %}{{ a }}", "{% set n = n + 1 %}{{ n }}",
    "{% macro m(a, b=2) %}{{ a }}-{{ b }}{% endmacro %}{{ m(1) }} {{ m(1, 3) }} {{ m(b=4, a=5) }} {{ m() }}", "{% macro m(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}", "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}", "{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}", "{% macro m(a) %}{% endmacro %}{{ m(b=2) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, a=2) }}", "{% macro m(a, a) %}{% endmacro %}", "{% macro m(a=1, b) %}{% endmacro %}", "{% macro m(x) %}{{ x }}{{ n }}{% set n = 1 %}{% endmacro %}{{ m(1) }}{{ n }}", "{% macro m() %}{{ later }}{% endmacro %}{% set later = 5 %}{{ m() }}",
    "{% macro f(k) %}{% if k > 1 %}{{ k * (f(k - 1) | int) }}{% else %}1{% endif %}{% endmacro %}{{ f(5) }}", "{% macro m() %}  x  {% endmacro %}[{{ m() | trim }}][{{ m() }}]", "{% macro m() -%}  x  {%- endmacro %}[{{ m() }}]", "{{ m is defined }}{% macro m() %}{% endmacro %}{{ m is callable }}{{ m.name }}", "{% for x in xs %}{% macro m() %}{{ x }}{% endmacro %}{{ m() }}{% endfor %}", "{% macro m() %}{{ caller() }}{% endmacro %}{% call m() %}body{{ n }}{% endcall %}", "{% macro m(v) %}{{ caller(v) }}{% endmacro %}{% call(q) m(3) %}<{{ q }}>{% endcall %}", "{% macro m() %}{{ caller is defined }}{% endmacro %}{{ m() }}", "{% macro m() %}x{% endmacro %}{% call m() %}y{% endcall %}", "{% call n %}{% endcall %}",
    "{% filter upper %}a{{ s }}{% endfilter %}", "{% filter replace('a', 'b') | upper %}aXa{% endfilter %}", "{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a is defined }}", "{% with %}{% set a = 1 %}{{ a }}{% endwith %}{{ a is defined }}", "{% set a = 1 %}{% with a = 2, b = a %}{{ a }}{{ b }}{% endwith %}", "{% print n %}{% print n, s %}", "{% generation %}a{{ n }}{% endgeneration %}", "{% generation %}{% set w = 1 %}{% endgeneration %}{{ w is defined }}", "{% generation %}\nx\n{% endgeneration %}\ny",
    "{% for m in msgs %}{{ m.role }}:{% if m.content %}{{ m.content }}{% endif %};{% endfor %}", "{% for m in msgs if m.role == 'user' %}{{ m['content'] }}{% endfor %}", "{% for m in msgs %}{% if loop.last and m.role != 'x' %}{{ m.x.y | join('+') }}{% endif %}{% endfor %}", "{% for m in msgs[::-1] %}{{ loop.index }}{{ m.n }} {% endfor %}", "{%- for m in msgs %}\n    {%- if m.role == 'user' %}\n        {{- '[' + m.content + ']' }}\n    {%- else %}\n        {{- raise_exception('bad role ' + m.role) }}\n    {%- endif %}\n{%- endfor %}", "{% for m in msgs %}{{ 'x' + m.content }}{% endfor %}", "{% set m = msgs | selectattr('role', 'eq', 'user') | list %}{{ m[-1].content }}{{ m | length }}", "{{ msgs | map(attribute='role') | unique | join(',') }}",
    "{% if s is string and s | length > 3 %}y{% endif %}", "{% if 'a' in d and 'q' not in d %}y{% endif %}", "{{ 1 }}{{ 2 }}\n{{ 3 }}", "{{ 'a\nb' }}", "{{\n  n\n}}", "{%\n if\n t\n%}x{%\n endif\n%}", "{{ n }}  \n  {{ n }}", "{% if t %}\n\nx\n\n{% endif %}\n\ny", "   {%- if t %}x{% endif -%}   \n z", "{{ n -}}\n\n{{ n }}", "x{% set a = 1 %}\n{% set b = 2 %}\ny", "\u00a0 {% if t %}x{% endif %}", "a\n\u00a0{% if t %}x{% endif %}", "\u3000{{- 1 }}", "{% do 1 %}", "{% include 'x' %}", "{% extends 'x' %}", "{% break %}", "{% for x in xs recursive %}{{ x }}{% endfor %}", "{% macro m() %}{% break %}{% endmacro %}", "{{ n|nosuch }}", "{% if z %}{{ n|nosuch }}{% endif %}ok", "{% if t %}{{ n|nosuch }}{% endif %}", "{% if z %}{{ n is nosuch }}{% endif %}ok", "{{ x.y.z }}", "{{ {}.x.y }}", "{{ }}", "{{ 1", "{% if", "{{ 'a' }", "{{ (1 }}", "{{ ) }}", "{{-1}}", "{{ - 1 }}", "{{+1}}", "{%-set a=1-%}{{a}}", "{{n}}{{s}}{{f}}{{t}}{{none}}{{xs}}{{d}}",
]

# What jinja2 allows and the engine refuses by design: blocks of other templates and recursion.
SKIP_WHEN_REFUSED = {"{% for x in xs recursive %}{{ x }}{% endfor %}"}


def main():
    env = jinja_oracle.environment()
    sources = ["{{ " + text.replace("\\\\", "\\") + " }}" for text in EXPRESSIONS] + TEMPLATES
    cases = []
    for source in sources:
        if source in SKIP_WHEN_REFUSED:
            continue
        cases.append({"source": source, **jinja_oracle.render(env, source, json.loads(json.dumps(CONTEXT)))})
    out = ROOT / "tests/templates/snippets.json"
    body = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    out.write_text('{"now_seconds": %d, "context": %s,\n"cases": [\n%s\n]}\n' % (
        jinja_oracle.NOW_SECONDS, json.dumps(CONTEXT), body), encoding="utf-8", newline="")
    print(f"{len(cases)} snippets, {sum('error' in case for case in cases)} refusals, "
          f"{out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
