"python -m pdd_nb COMMAND ..."
from pdd_nb.cli import main

if __name__ == '__main__': main()
