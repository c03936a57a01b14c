"Tests run side by side, a process to a core; each keeps to one thread."
import os

os.environ.setdefault('OMP_NUM_THREADS', '1')
