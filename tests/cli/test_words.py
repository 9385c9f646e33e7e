"""The command line speaks its own words: no error, note or remark of it shows Python.

The sentences are read out of the source, so a new one is tested as soon as it is written. What no command reaches is
named here, with the reason.
"""

import ast
import json
from pathlib import Path

import pytest
import typer

import hdnn
from hdnn.cli import application
from hdnn.doors import in_options
from wording import python_words, text_of

SOURCE = Path(hdnn.__file__).parent
# Commands build networks by name, train and export them as they are, and hand whole flows and states to an analysis.
PYTHON_ALONE = {
    "analysis", "estimator", "hub", "plots", "kernels", "report.py", "presets.py", "structures.py", "hamiltonian.py",
    "interconnections.py", "dissipation.py", "integrators.py", "implicit.py", "energies.py", "fields.py",
    "poisson.py", "flow/beside.py", "__init__.py", "spaces",
    "training/checks.py", "training/batches.py", "training/positions.py",  # what a user of Python made
    "training/joining.py",  # loaders
    "arguments.py", "flow/attributes.py", "flow/states.py", "flow/module.py",  # types, tensors, whole flows
    "nodes.py", "contractive.py", "distributed",  # graphs, a network and ranks, which no command brings
    "training/fused.py",  # reasons that a named backend gives
    "data/arrow_batches.py",  # no command reads in batches of PyTorch
    "flow/inputs.py",  # edges and inputs, which no command brings
    "flow/memory.py", "flow/parameters.py", "flow/plans.py",  # no command chooses memory or backend
}  # fmt: skip
FUNCTIONS_ALONE = {
    "flow/settings.py": {
        "checked_sizes",
        "warn_of_rounding",
        "check_memory",
        "floating_point",
        "check_loaded",
        "check_directed",
        "known_layers",
        "_check_dissipation",
        "_check_halves",
        "check_damping",
    },
    "networks/network.py": {"image_classifier", "_lift", "read"},  # flows and inputs that do not fit: names make none
    "networks/graphs.py": {"__init__", "over_graphs", "probabilities", "_of_graphs"},  # nor these
    "networks/signals.py": {"_of_signals"},
    "recurrent/oscillators.py": {"extra_repr"},
    "networks/sequences.py": {"_known"},  # recurrent networks of the user's
    "stages/maps.py": {"__init__", "forward", "_positions"},  # as the networks that they are part of
    "stages/stage.py": {"__init__", "check", "folded"},
    "stages/reversal.py": {"backward"},
    "training/backends.py": {"chosen_backend"},  # no command chooses one
    "training/block.py": {"bind", "remember"},  # callbacks of the user's, frozen parts
    "training/ensemble.py": {"failed"},  # modules that presets do not have
    "training/optimizers.py": {"_move"},  # embeddings, which presets do not have
    "training/starts.py": {"_fresh"},
    "training/fitting.py": {"_of_loader"},  # loaders, and many networks at once
    "training/single.py": {"_check_begun"},
    "training/objective.py": {"_mean", "check_dependence"},  # losses of the user's own
    "data/encoders.py": {"__post_init__"},  # statistics of an edited configuration are named
    "data/image_encoder.py": {"__post_init__", "checked"},  # the same, and arrays
    "entries.py": {"place"},
    "damping.py": {"decayed", "check_way_back"},  # fields bound by hand, memory
    "export.py": {"to_program"},
}


def sentences(path):
    """Function, line and text for the command line of every sentence of a file that is no docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    owner, passed = {}, set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            owner |= {id(each): node.name for each in ast.walk(node)}
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            passed.add(id(node.value))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "shelled":
            passed |= {id(each) for each in ast.walk(node.args[0])}
        if isinstance(node, ast.JoinedStr):
            passed |= {id(each) for each in ast.walk(node)} - {id(node)}
    for node in ast.walk(tree):
        said = text_of(node) if isinstance(node, ast.Constant | ast.JoinedStr) and id(node) not in passed else ""
        if len(said.split()) >= 4:
            yield owner.get(id(node), ""), node.lineno, said


FILES = [
    path
    for path in sorted(SOURCE.rglob("*.py"))
    if not {str(path.relative_to(SOURCE)), path.relative_to(SOURCE).parts[0]} & PYTHON_ALONE
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_sentence_shows_python(path):
    commands = typer.main.get_command(application.app).commands.values()
    options = {each.name: each.opts[0] for command in commands for each in command.params}
    options |= {name: options[own] for name, own in application.ALIASES.items()}
    alone = FUNCTIONS_ALONE.get(str(path.relative_to(SOURCE)), set())
    for function, line, said in sentences(path):
        if function not in alone:
            shown = in_options(ValueError(said), options)
            assert not python_words(shown), f"line {line}: {shown}"


def test_the_lists_of_exceptions_are_no_longer_than_they_must_be():
    for name in PYTHON_ALONE | FUNCTIONS_ALONE.keys():
        assert (SOURCE / name).exists(), name
    for name, functions in FUNCTIONS_ALONE.items():
        assert functions <= {function for function, *_ in sentences(SOURCE / name)}, name


def test_what_an_analysis_leaves_out_is_said_without_python(hdnn, place):
    # Separate weights have no one energy, forward Euler keeps no J and has no explicit inverse.
    code, out, err = hdnn("analyze --model h1 --layers 3 --samples 3 -o looked --json")
    assert code == 0
    for reason in [*json.loads(out)["left_out"].values(), err]:
        assert not python_words(reason), reason
