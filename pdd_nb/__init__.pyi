from _typeshed import Incomplete

__version__: str
openmp: Incomplete
