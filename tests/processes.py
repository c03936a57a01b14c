"Processes joined by torch, for tests: forked from a script after its imports, so that the libraries are loaded once."
import os, signal, socket, traceback

def _port():
    "A port that is free now"
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]

def together(f, *args, n=2,
             ends=False): # whether the death of one ends the others, as the launcher of accelerate does
    "Call `f` in `n` new processes, with the environment that `accelerate launch` gives them; their wait statuses, 0 if all went well"
    port, pids, statuses = _port(), [], {}
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
    while len(statuses) < n:
        pid, status = os.wait()
        statuses[pid] = status
        if status and ends:
            for other in set(pids) - set(statuses): os.kill(other, signal.SIGTERM)
    return [statuses[pid] for pid in pids]
