"""Runs first in every Python process of the CPU engine, because its directory is on their PYTHONPATH.

Owns one stand-in: an empty `torchvision._meta_registrations`. SGLang imports torchvision for its image models.
PyPI's torchvision is built against a CUDA torch; beside a CPU torch its compiled operators do not load, which
torchvision tolerates, but `_meta_registrations` then describes operators that do not exist, which torch does not.
Text models need none of them. The other stand-in, `sgl_kernel`, is found in this directory by being imported.

Knows nothing of ramet: it must work in an environment that holds SGLang and nothing of ours.
"""

import sys
from types import ModuleType

sys.modules["torchvision._meta_registrations"] = ModuleType("torchvision._meta_registrations")
