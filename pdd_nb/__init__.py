import logging, os, sys

__version__ = "0.1.0"

def _shorten_spin() -> str:
    "Let OpenMP threads that wait go to sleep after a short spin, unless the environment says how; returns what holds, for `pdd-info`"
    for name in ('GOMP_SPINCOUNT', 'OMP_WAIT_POLICY'):
        if name in os.environ: return f'{name}={os.environ[name]}, of the environment'
    os.environ['GOMP_SPINCOUNT'] = '3000'
    if 'torch' in sys.modules: return 'the default of the library: torch was imported before pdd_nb, which then cannot set GOMP_SPINCOUNT'
    return 'GOMP_SPINCOUNT=3000, set by pdd_nb before torch was imported'

# GNU OpenMP lets a waiting thread spin for so long that one other busy process makes each forward many times slower.
# The library reads the variable once, when torch loads it.
openmp = _shorten_spin()

# torchvision is not needed: without this, transformers warns twice at every import that it is missing
logging.getLogger('transformers.utils.import_utils').addFilter(lambda record: 'requires torchvision' not in record.getMessage())
