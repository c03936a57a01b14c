"Processes joined by torch, for tests: forked from a script after its imports, so that the libraries are loaded once."
import os, socket, traceback

def _port():
    "A port that is free now"
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]

def together(f, *args, n=2) -> list[int]:
    "Call `f` in `n` new processes, with the environment that `accelerate launch` gives them; their wait statuses, 0 if all went well"
    port, pids = _port(), []
    for rank in range(n):
        pid = os.fork()
        if pid:
            pids.append(pid)
            continue
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(n), LOCAL_WORLD_SIZE=str(n),
                          MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
        try: f(*args)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return [os.waitpid(pid, 0)[1] for pid in pids]
