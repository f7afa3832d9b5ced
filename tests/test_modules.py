"""What each module says that it offers: ``__all__``, looked at in the sources."""

import ast
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"wgf": "wgf", "wgf.agents": "agents", "wgf.policies": "policies", "wgf.runs": "runs"}
LINKED = {"agents", "policies", "runs"}  # below wgf


def sources():
    """Module name -> its source, parsed."""
    found = {}
    for package, folder in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            if parts[-1] != "__main__" and not (package == "wgf" and parts[0] in LINKED):
                name = ".".join([package, *(part for part in parts if part != "__init__")])
                found[name] = ast.parse(path.read_text("utf-8"))
    return found


def bound(statements):
    """The names to which statements give values, in branches too."""
    found = set()
    for s in statements:
        if isinstance(s, (ast.Import, ast.ImportFrom)):
            found |= {alias.asname or alias.name.split(".")[0] for alias in s.names}
        elif isinstance(s, (ast.FunctionDef, ast.ClassDef)):
            found.add(s.name)
        elif isinstance(s, (ast.If, ast.Try)):
            found |= bound([*s.body, *s.orelse, *(inner for handler in getattr(s, "handlers", []) for inner in handler.body)])
        else:
            found |= {n.id for n in ast.walk(s) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return found


def offered(tree):
    """What ``__all__`` holds; None where there is none."""
    for s in tree.body:
        if isinstance(s, (ast.Assign, ast.AnnAssign)) and "__all__" in bound([s]):
            return ast.literal_eval(s.value)
    return None


SOURCES = sources()
IMPORTS = defaultdict(set)  # of a module by another
for _node in (node for tree in SOURCES.values() for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)):
    IMPORTS[_node.module] |= {alias.name for alias in _node.names if not alias.name.startswith("_")}


@pytest.mark.parametrize("module", SOURCES)
def test_a_module_offers_what_it_defines_and_others_import(module):
    tree = SOURCES[module]
    made = {s.name for s in tree.body if isinstance(s, (ast.FunctionDef, ast.ClassDef)) and not s.name.startswith("_")}
    names = offered(tree)
    if names is None:
        assert not made, f"{module} has no __all__"
        return
    assert set(names) <= bound(tree.body) | {"__version__"}
    assert len(set(names)) == len(names)
    assert {name for name in IMPORTS[module] if f"{module}.{name}" not in SOURCES} <= set(names)


def test_all_rooms_are_looked_at():
    assert {"wgf", "wgf.svgd", "wgf.bnn.fit", "wgf.policies.gaussian", "wgf.agents.sac", "wgf.agents.training.loop"} <= SOURCES.keys()
    assert {"wgf.runs.command.cli", "wgf.runs.studies.figure1"} <= SOURCES.keys()
