"Tests run side by side, a process to a core; each keeps to one thread. The tests of a file go to one process, so that its fixtures are made once; notebooks go anywhere."
import os

os.environ.setdefault('OMP_NUM_THREADS', '1')

def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadScopeScheduling
    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid): return nodeid if 'test_notebooks.py' in nodeid else nodeid.split('::')[0]
    return ByFile(config, log)
