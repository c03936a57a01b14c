"Several processes encode as one, and a pass that is killed goes on to the same bytes."
import subprocess, sys
from pathlib import Path

def files(folder):
    "The bytes of every file"
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob('[!.]*')) if f.is_file()}

def test_two_processes_killed_and_resumed_encode_as_one(tmp_path):
    r = subprocess.run([sys.executable, Path(__file__).with_name('two_encoders.py'), tmp_path], capture_output=True, text=True)
    assert r.returncode == 0, (r.stdout + r.stderr)[-3000:]
    whole = files(tmp_path/'whole')
    assert len(whole['pictures/bad.jsonl'].splitlines()) == 3 and {'pictures/latents-00006.safetensors', 'prompts/states-00003.safetensors'} <= set(whole)
    cut = files(tmp_path/'dead on pictures')                             # one of the two is killed in the middle of its third shard
    assert b'"complete": false' in cut['pictures/index.json'] and 'pictures/latents-00003.safetensors' in cut and 'pictures/latents-00005.safetensors' not in cut
    cut = files(tmp_path/'dead on prompts')                              # the pictures are finished; then it is killed on the prompts
    assert {k: v for k, v in cut.items() if k.startswith('pictures')} == {k: v for k, v in whole.items() if k.startswith('pictures')}
    assert b'"complete": false' in cut['prompts/index.json']
    assert files(tmp_path/'two') == whole
