"""What msgspec raises for bytes that are not JSON of the form that was wanted. Owns that list, and nothing else."""

import msgspec

# Beside its own error: a string that is not UTF-8 (msgspec 0.22 lets the codec's error through), and what is nested
# deeper than the interpreter goes.
NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
