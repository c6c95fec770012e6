"""Which variables a job takes along.

A job's environment is part of its description in the store, where everybody who may
read the store reads it, and a machine that resumes the job gets it from there. So only
what a training is known to need goes along, and nothing that looks like a secret.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from spotwatchd.errors import JobError
from spotwatchd.wire.attempt import looks_secret

_NAMES = frozenset(
    ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
)
_PREFIXES = (
    "LC_",
    "PYTHON",
    "CONDA_",
    "CUDA_",
    "NVIDIA_",
    "OMP_",
    "MKL_",
    "TORCH_",
    "NCCL_",
    "HF_",
    "TRANSFORMERS_",
)


def _goes_along(name: str) -> bool:
    known = name in _NAMES or name.startswith(_PREFIXES)
    return known and not looks_secret(name)


def job_environment(environ: Mapping[str, str], chosen: Sequence[str]) -> dict[str, str]:
    """The variables of a new job.

    Args:
        environ: usually ``os.environ``.
        chosen: values of ``--env``: NAME takes the variable along, NAME=VALUE sets it.

    Raises:
        JobError: a chosen variable is not set.
    """
    taken = {name: value for name, value in environ.items() if _goes_along(name)}
    for word in chosen:
        name, equals, value = word.partition("=")
        if not name:
            raise JobError(f"--env {word} names no variable", remedy="--env NAME or NAME=VALUE")
        if not equals and name not in environ:
            raise JobError(
                f"--env {name}: that variable is not set",
                where="the environment of this command",
                remedy=f"export {name}, or give --env {name}=VALUE",
            )
        taken[name] = value if equals else environ[name]
    return taken
