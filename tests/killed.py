"Ends a process, or takes a folder away, at a chosen change of the file system."
import builtins, errno, io, os
from contextlib import contextmanager
from pathlib import Path

import pytest, safetensors.torch
from safetensors import SafetensorError

def killed_at(n, calls): # names of functions of `os`
    "End the process at its n-th such call; what it did before stays"
    left = [n]
    def counted(f):
        def call(*a, **k):
            if not left[0]: os._exit(9)
            left[0] -= 1
            return f(*a, **k)
        return call
    for name in calls: setattr(os, name, counted(getattr(os, name)))

WRITE = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = ('replace', 'rename', 'mkdir', 'unlink', 'rmdir', 'chmod')

@contextmanager
def failing_at(n, folder, fail=None):
    "From the n-th change of the file system in a folder on, each fails as on a file system that is read-only; yields a list with the number of changes. `fail()` is called first"
    count = [0]
    def refuse(path):
        count[0] += 1
        if count[0] == n and fail: fail()
        if count[0] >= n and not fail: raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
    def inside(path, **k): return not isinstance(path, int) and (k.get('dir_fd') is not None or Path(os.fsdecode(path)).is_relative_to(folder))
    def changing(f, writes=lambda *a, **k: True):
        def call(path, *a, **k):
            if writes(*a, **k) and inside(path, **k): refuse(path)
            return f(path, *a, **k)
        return call
    def opens(mode='r', *a, **k): return set(mode) & set('wax+')
    def saved(tensors, path, **k):
        try: refuse(path)
        except OSError as e: raise SafetensorError(f'Error while serializing: I/O error: {e.strerror} (os error {e.errno})') from None
        return save(tensors, path, **k)
    save = safetensors.torch.serialize_file
    with pytest.MonkeyPatch.context() as m:
        for name in CHANGES: m.setattr(os, name, changing(getattr(os, name)))
        m.setattr(os, 'open', changing(os.open, lambda flags, *a, **k: flags & WRITE))
        for module in (builtins, io): m.setattr(module, 'open', changing(io.open, opens))
        m.setattr(safetensors.torch, 'serialize_file', saved)
        yield count
