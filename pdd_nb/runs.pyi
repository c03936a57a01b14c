from .config import DistillConfig
from _typeshed import Incomplete
from pathlib import Path

__all__ = ['RUN_FILES', 'RUN_ENTRIES', 'RUN_PATTERNS', 'is_run', 'is_finished', 'FREE_KEYS', 'check_same', 'check_run', 'open_run', 'MARKS']

RUN_FILES: Incomplete
RUN_ENTRIES: Incomplete
RUN_PATTERNS: Incomplete

def is_run(folder) -> bool: ...
def is_finished(folder) -> bool: ...

FREE_KEYS: Incomplete

def check_same(was: DistillConfig, cfg: DistillConfig, finished: bool = False): ...
def check_run(cfg: DistillConfig, resume: bool = True): ...
def open_run(cfg: DistillConfig, resume: bool = True) -> Path: ...

MARKS: Incomplete
