"""Stand-in for `sgl_kernel`, SGLang's compiled CUDA operators: any name is a function that refuses to run.

PyPI has only CUDA builds of the real one, and code that the CPU engine reaches imports names from it, among them
`copy_all_layer_kv_cache_cpu` (SGLang 0.5.21, `kernels/ops/kvcache/cache_move.py`), which is called only where KV
pages are moved between layers' pools: never on the paths this runtime uses. SGLang itself asks torch whether the
operators are registered; they are not, so it takes its plain torch paths everywhere else.

A call that should not happen is therefore an error with the operator's name, not a wrong number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

__path__: list[str] = []  # makes `import sgl_kernel.anything` fail as a missing module, which SGLang handles
__version__ = "0.0.0"


def __getattr__(name: str) -> Callable[..., NoReturn]:
    if name.startswith("__"):
        raise AttributeError(name)

    def refuse(*_args: object, **_kwargs: object) -> NoReturn:
        raise NotImplementedError(f"sgl_kernel.{name} is a CUDA operator; this is the CPU engine")

    refuse.__name__ = name
    return refuse
