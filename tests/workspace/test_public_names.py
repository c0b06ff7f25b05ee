"""What `workspace` exports."""

import types

import workspace


def test_all_is_exactly_what_is_imported() -> None:
    """`__all__` names every public thing the package imports, sorted, and nothing else."""
    public = {
        name
        for name, value in vars(workspace).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert public == set(workspace.__all__)
    assert len(set(workspace.__all__)) == len(workspace.__all__)
