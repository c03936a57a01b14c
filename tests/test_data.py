"Several processes encode as one, and a pass that is killed goes on to the same bytes."
import os, subprocess, sys
from pathlib import Path

import pytest

SCRIPT = '''
import os, signal, sys, torch
from pathlib import Path
from pdd_nb.data import Folder
from pdd_nb.encoded import preencode, store_trajectories
from pdd_nb.families import family_of, load_pipeline
torch.set_num_threads(1)

class Teacher:
    "The embedded one; process 1 kills itself at its call number `at`"
    def __init__(self, at):
        self.family = family_of(load_pipeline(), 'embedded')
        self.name, self.fingerprint, self.resolution, self.device = 'embedded', self.family.fingerprint, 64, 'cpu'
        self.dies(at)
    def dies(self, at): self.left = at if os.environ.get('RANK') == '1' else 0
    def tick(self):
        self.left -= 1
        if self.left == 0: os.kill(os.getpid(), signal.SIGKILL)
    def encode(self, prompts): self.tick(); return self.family.encode(prompts)
    def latents(self, images): self.tick(); return self.family.latents(images)

folder, *deaths = Path(sys.argv[1]), *map(int, sys.argv[2:])              # the call at which process 1 dies, for pictures and for prompts; 0: it lives
teacher = Teacher(deaths[0])
preencode(teacher, Folder(folder.parent/'pictures'), folder/'pictures', 'random', batch=8, shard=16, quiet=True)
teacher.dies(deaths[1])
store_trajectories(lambda z, c: teacher.tick() or [z*k + c['prompt_embeds'].mean() for k in range(5)], teacher, [f'a {i%5}' for i in range(30)], (4, 16, 16), 4, folder/'prompts', n=60, batch=8, shard=16, quiet=True)
'''

@pytest.fixture(scope='module')
def script(tmp_path_factory):
    "The script, beside a folder of 100 scenes with some bad ones"
    from pdd_nb.data import SceneItems
    from pdd_nb.sampling import to_pil
    d = tmp_path_factory.mktemp('data'); (d/'pictures').mkdir()
    for i, it in enumerate(SceneItems(100)):
        to_pil(it.data).resize((64 + i, 64)).save(d/'pictures'/f'{i:03}.png'); (d/'pictures'/f'{i:03}.txt').write_text('' if i == 30 else it.caption[:12])
    for i in (7, 50): (d/'pictures'/f'{i:03}.png').write_bytes((d/'pictures'/f'{i:03}.png').read_bytes()[:300])
    (d/'encode.py').write_text(SCRIPT)
    return d/'encode.py'

def encode(script, name, processes=1, deaths=(0, 0)):
    "Encode, killed or not; the bytes of every file"
    launch = [Path(sys.executable).with_name('accelerate'), 'launch', '--multi_gpu', '--num_processes', str(processes), '--num_machines', '1', '--mixed_precision', 'no', '--dynamo_backend', 'no'] if processes > 1 else [sys.executable]
    r = subprocess.run([*launch, script, script.parent/name, *map(str, deaths)], capture_output=True, text=True, env=os.environ | {'OMP_NUM_THREADS': '1'})
    assert (r.returncode == 0) == (deaths == (0, 0)), (r.stdout + r.stderr)[-3000:]
    return {str(f.relative_to(script.parent/name)): f.read_bytes() for f in sorted((script.parent/name).rglob('[!.]*')) if f.is_file()}

def test_two_processes_killed_and_resumed_encode_as_one(script):
    whole = encode(script, 'whole')
    assert len(whole['pictures/bad.jsonl'].splitlines()) == 3 and {'pictures/latents-00006.safetensors', 'prompts/states-00003.safetensors'} <= set(whole)
    cut = encode(script, 'two', 2, (6, 0))                               # one of the two is killed in the middle of its third shard
    assert b'"complete": false' in cut['pictures/index.json'] and 'pictures/latents-00003.safetensors' in cut and 'pictures/latents-00005.safetensors' not in cut
    cut = encode(script, 'two', 2, (0, 4))                               # the pictures are finished; then it is killed on the prompts
    assert {k: v for k, v in cut.items() if k.startswith('pictures')} == {k: v for k, v in whole.items() if k.startswith('pictures')}
    assert b'"complete": false' in cut['prompts/index.json']
    assert encode(script, 'two', 2) == whole
