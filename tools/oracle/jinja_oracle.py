"""jinja2 set up for chat templates the way transformers sets it up (transformers 5,
utils/chat_template_utils.py): an immutable sandbox with trimmed blocks, loop controls, the `generation`
tag, a `tojson` without HTML escaping, `raise_exception`, guarded namespaces, and
`strftime_now`, here at a fixed time."""

import datetime
import json

import jinja2
import jinja2.ext
import jinja2.sandbox

NOW_SECONDS = 1_753_531_200  # 2025-07-26 12:00:00 UTC


class GenerationTag(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        call = self.call_method("_pass_through")
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _pass_through(self, caller):
        return caller()


class Namespace(jinja2.utils.Namespace):
    """Refuses names that begin with an underscore."""

    def __init__(*args, **kwargs):
        self, args = args[0], args[1:]
        attributes = dict(*args, **kwargs)
        for name in attributes:
            Namespace.check(name)
        jinja2.utils.Namespace.__init__(self, attributes)

    def __setitem__(self, name, value):
        Namespace.check(name)
        jinja2.utils.Namespace.__setitem__(self, name, value)

    @staticmethod
    def check(name):
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError(f"a namespace cannot hold {name!r}")


def _raise(message):
    raise jinja2.TemplateError(message)


def _to_json(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                      sort_keys=sort_keys)


def _now(pattern):
    moment = datetime.datetime.fromtimestamp(NOW_SECONDS, datetime.timezone.utc)
    return moment.strftime(pattern)


def environment():
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, jinja2.ext.loopcontrols])
    env.filters["tojson"] = _to_json
    env.globals["raise_exception"] = _raise
    env.globals["strftime_now"] = _now
    env.globals["namespace"] = Namespace
    return env


def render(env, source, variables):
    """{"text": ...} or {"error": ...}: the error text is jinja2's, for the reader only."""
    try:
        return {"text": env.from_string(source).render(**variables)}
    except Exception as error:  # every failure of the template counts, whatever its type
        return {"error": str(error)}
