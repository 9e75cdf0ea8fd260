"""How the documentation is built: offline, with the diagram drawn from the code."""

import inspect
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import GenericAlias
from typing import Any, get_type_hints, is_typeddict

from sphinx.application import Sphinx
from sphinx.ext.napoleon.docstring import GoogleDocstring

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import diagrams  # noqa: E402 - found by the path set above

from clocknext_core import __version__, resources  # noqa: E402
from clocknext_core.models import Field, Items, Many, Model  # noqa: E402
from clocknext_core.resources.binding import Resource, endpoint, paged, recording  # noqa: E402

project = "clocknext for Python"
author = "The clocknext for Python authors"
project_copyright = author
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "alabaster"
html_theme_options = {
    "description": "Usage metering and billing for AI products",
    "page_width": "1120px",
    "sidebar_width": "240px",
    "font_family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif",
    "font_size": "16px",
    "code_font_size": "0.87em",
}
html_sidebars = {"**": ["about.html", "searchbox.html", "navigation.html"]}
html_static_path = ["site"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]

myst_heading_anchors = 3
# Whose classes the integrations derive from.
autodoc_mock_imports = ["botocore", "langchain_core", "litellm", "pydantic_ai"]
default_role = "code"  # docstrings write `name` for code
python_maximum_signature_line_length = 100
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}


def read_docstring(_app: Sphinx, what: str, *subject_and_lines: Any) -> None:
    """Read docstrings in Google's style; those of attributes are plain text, whatever colons they have."""
    _name, subject, _options, lines = subject_and_lines
    if what not in ("attribute", "data", "property"):
        lines[:] = GoogleDocstring(lines, obj=subject).lines()
    if is_typeddict(subject):
        lines += _fields_of(subject)


def _fields_of(fields: type[Any]) -> Iterator[str]:
    """Say of each field of a TypedDict whether it is required, and what its annotation says."""
    yield ""
    for name, annotation in get_type_hints(fields, include_extras=True).items():
        meaning = next(
            (note for note in getattr(annotation, "__metadata__", ()) if isinstance(note, str)), ""
        )
        required = ", required" if name in fields.__required_keys__ else ""
        yield f"- `{name}`{required}: {meaning}"
    yield ""


def show_what_is_called(app: Sphinx) -> None:
    """Replace the descriptors of the resources by functions with the signature of the bound method."""
    del app
    for module in iter_modules(resources.__path__, f"{resources.__name__}."):
        import_module(module.name)
    for resource in _subclasses(Resource):
        for name, member in list(vars(resource).items()):
            if isinstance(member, endpoint | paged):
                returns = member.returned
                if isinstance(member, paged):
                    returns = GenericAlias(Iterator, (returns,))
                setattr(resource, name, _like(member.build, returns))
            elif isinstance(member, recording):
                setattr(resource, name, member.build)


def show_what_is_read(app: Sphinx) -> None:
    """Replace each descriptor of a field by the type of its value."""
    del app
    for model in _subclasses(Model):
        for name, member in list(vars(model).items()):
            if isinstance(member, Field):  # a nested object's is one, too
                returns: object = member.kind | None
            elif isinstance(member, Many):
                returns = GenericAlias(Items, (member.kind,))
            else:
                continue
            model.__annotations__[name] = returns
            delattr(model, name)


def _subclasses(kind: type[object]) -> Iterator[type[object]]:
    subclass: type[object]
    for subclass in kind.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


def _like(build: Callable[..., object], returns: object) -> Callable[..., object]:
    def method(*args: object, **kwargs: object) -> object:
        raise NotImplementedError(args, kwargs)

    for name in ("__name__", "__qualname__", "__module__", "__doc__"):
        setattr(method, name, getattr(build, name))
    method.__annotations__ = {**build.__annotations__, "return": returns}
    signature = inspect.signature(build).replace(return_annotation=returns)
    setattr(method, "__signature__", signature)  # noqa: B010 - functions have it, their type does not
    return method


def draw_diagrams(app: Sphinx) -> None:
    """Draw the diagram of states."""
    del app
    diagrams.write(HERE / "_static" / "signal-states.svg")


def setup(app: Sphinx) -> None:
    """Hook into the build."""
    app.connect("builder-inited", draw_diagrams)
    app.connect("builder-inited", show_what_is_called)
    app.connect("builder-inited", show_what_is_read)
    app.connect("autodoc-process-docstring", read_docstring)
