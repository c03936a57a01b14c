"Runs with stages of matching: students of several numbers of steps from one run, from prompts alone, evaluated, drawn and exported together."
import pytest, torch
from torch.testing import assert_close

from pdd_nb.config import load_config, stages
from pdd_nb.evaluation import evaluate_run
from pdd_nb.export import difference, export
from pdd_nb.models import load_student, student_folders, student_note
from pdd_nb.runs import is_finished
from pdd_nb.sampling import sample_images, text_to_image
from pdd_nb.trainer import Trainer

TINY = ('device=cpu threads=1 model.teacher.num_inference_steps=4 model.student.num_inference_steps=4 model.student.lora_rank=4 '
        'distillation.matching.students=[4,1] distillation.matching.updates=1 distillation.matching.head_start=1 data.train_size=8 '
        'data.valid_size=4 training.batch_size=4 training.lr_warmup=1 evaluation.prompts=4 evaluation.pairs=2 evaluation.reference=16 '
        'evaluation.replicates=4 distillation.matching.noise_levels=4').split()

def run(folder, *over):
    cfg = load_config('halving', f'output={folder}', *TINY, *over)
    return Trainer(cfg, quiet=True).run(), cfg

@pytest.fixture(scope='module')
def matched(tmp_path_factory):
    "A run of matching alone, from prompts alone"
    d = tmp_path_factory.mktemp('matched')
    (d/'prompts.txt').write_text('a red star\na blue circle\na green cross\na small square\na large star\na circle\n', encoding='utf-8')
    return run(d/'run', f'data.source={d/"prompts.txt"}', 'data.valid_size=4')

def test_one_run_saves_a_student_for_each_number_of_steps(matched):
    folder, cfg = matched
    assert is_finished(folder) and [s.name for s in stages(cfg)] == ['4 steps, matching', '1 step, matching']
    assert [f.name for f in student_folders(folder)] == ['student', 'student-1']
    assert [student_note(folder, n)[1]['num_inference_steps'] for n in (None, 4, 2, 1)] == [4, 4, 4, 1]
    four, one = [load_student(f) for f in student_folders(folder)]
    assert one.scheduler.config == four.scheduler.config                      # each walks the trailing timesteps of its own number

def test_an_image_is_drawn_by_the_student_of_its_steps(matched):
    folder, _ = matched
    drawn = text_to_image(folder, 'a red star', num_inference_steps=1)
    assert difference(drawn, text_to_image(folder/'student-1', 'a red star')) == 0

def test_all_students_are_evaluated_beside_the_teacher_at_equal_calls(matched):
    folder, cfg = matched
    result = evaluate_run(folder/'student-1', cfg, progress=False)            # of any student: the whole run
    calls = {name: r['nfe'] for name, r in result['results'].items()}
    assert calls == {'teacher, 4 steps': 8, 'teacher, 2 steps': 4, 'teacher, 1 step unguided': 1, 'student, 4 steps': 4, 'student, 1 step': 1}
    assert result['results']['teacher, 4 steps']['diversity']['value'] == 1
    assert {'diversity', 'brightness', 'contrast', 'saturation'} <= set(result['results']['student, 1 step'])

def test_students_of_one_run_are_exported_as_named_adapters(matched, tmp_path):
    folder = export(matched[0], tmp_path/'few-steps')
    assert {'1-step.png', '4-step.png', '1-step', '4-step'} <= {p.name for p in folder.iterdir()}
    card = (folder/'README.md').read_text(encoding='utf-8')
    assert "adapter_name=f'{n}-step'" in card and 'Draws in 1, 4 steps' in card.replace(' and ', ', ')

def test_all_weights_are_matched_where_nothing_was_halved(tmp_path):
    folder, _ = run(tmp_path/'run', 'model.student.lora_rank=0', 'distillation.matching.students=[4]')
    assert_close(sample_images(load_student(folder), ['a star'], 4).isfinite().all(), torch.tensor(True))

@pytest.mark.parametrize('over, says', [
    (['model.teacher.num_inference_steps=8', 'model.student.lora_rank=0'], 'distillation.matching.students: expected none with model.student.lora_rank=0'),
    (['model.teacher.num_inference_steps=16', 'distillation.matching.students=[6,4]'], r'distillation.matching.students: expected 4 and less, or any of \[16, 8, 4\], got 6'),
    (['distillation.matching.students=[1,4]'], 'distillation.matching.students: expected whole numbers more than 0, each less than the one before'),
    (['distillation.matching.students=[]'], "model.student.num_inference_steps: expected less than the teacher's 4, got 4"),
    (['distillation.matching.anchor=[-1]'], 'distillation.matching.anchor: expected numbers of at least 0')])
def test_what_cannot_be_matched_is_refused(over, says):
    with pytest.raises(ValueError, match=says): load_config('halving', *TINY, *over)
