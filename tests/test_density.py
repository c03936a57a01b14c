"How dense the exported code is: limits that may be lowered and not raised. `python tests/test_density.py` prints the figures and where they are passed."
import ast, json, statistics
from pathlib import Path

root = Path(__file__).parent.parent
LIMITS = dict(percent_over_120=2., over_160=0, nodes_per_line=7.5, percent_several_statements=3., many_positionals_per_1000=5.,
              functions_over_200_nodes=3, cell_median=12, cells_over_30=0)
UNCOUNTED = (ast.expr_context, ast.operator, ast.cmpop, ast.unaryop, ast.boolop, ast.arguments, ast.alias, ast.Module)
LEAVES = (ast.Return, ast.Raise, ast.Continue, ast.Break)

def size(tree): return sum(not isinstance(n, UNCOUNTED) for n in ast.walk(tree))

def crowded(statements):
    "Do several statements share a line? A guard may, and so may a function of one line"
    if len(statements) < 2: return False
    first, second = statements[:2]
    guard = isinstance(first, ast.If) and not first.orelse and len(statements) == 2 and isinstance(second, LEAVES)
    return not guard and not (isinstance(first, (ast.FunctionDef, ast.ClassDef)) and len(statements) <= 3)

def places(path):
    "What passes a limit in a module: pairs of the limit and the place"
    text = path.read_text(encoding='utf-8')
    tree, by_line = ast.parse(text), {}
    for k, line in enumerate(text.splitlines(), 1):
        if len(line) > 120: yield 'percent_over_120', f'{path.name}:{k}'
        if len(line) > 160: yield 'over_160', f'{path.name}:{k}'
    for n in ast.walk(tree):
        if isinstance(n, ast.stmt): by_line.setdefault(n.lineno, []).append(n)
        if isinstance(n, ast.Call) and len(n.args) >= 5 and not any(isinstance(a, ast.Starred) for a in n.args):
            yield 'many_positionals_per_1000', f'{path.name}:{n.lineno}'
        if isinstance(n, ast.FunctionDef) and size(n) > 200: yield 'functions_over_200_nodes', f'{path.name}:{n.lineno} {n.name} {size(n)}'
    for k, statements in by_line.items():
        if crowded(statements): yield 'percent_several_statements', f'{path.name}:{k}'

def export_cells():
    "Lengths of the export cells of all notebooks, without flags, and where they are"
    for path in sorted((root/'nbs').glob('*.ipynb')):
        for cell in json.loads(path.read_text(encoding='utf-8'))['cells']:
            source = ''.join(cell['source'])
            if cell['cell_type'] == 'code' and source.startswith('#| export') and 'import ' not in source[:60]:
                lines = [line for line in source.splitlines() if line.strip() and not line.startswith('#|')]
                yield len(lines), f"{path.name} {cell['id']}"

def measure():
    "Figures by the names of the limits, and the places where they are passed"
    modules = [p for p in sorted((root/'pdd_nb').glob('*.py')) if not p.name.startswith('_')]
    texts = [p.read_text(encoding='utf-8') for p in modules]
    n = sum(bool(line.strip()) and not line.startswith('#') for t in texts for line in t.splitlines())
    where = [place for p in modules for place in places(p)]
    count = {k: sum(name == k for name, _ in where) for k in LIMITS}
    cells = list(export_cells())
    found = dict(percent_over_120=100*count['percent_over_120']/n, over_160=count['over_160'], nodes_per_line=sum(size(ast.parse(t)) for t in texts)/n,
                 percent_several_statements=100*count['percent_several_statements']/n, many_positionals_per_1000=1000*count['many_positionals_per_1000']/n,
                 functions_over_200_nodes=count['functions_over_200_nodes'], cell_median=statistics.median(k for k, _ in cells),
                 cells_over_30=sum(k > 30 for k, _ in cells))
    return found, where + [('cells_over_30', f'{place}: {k} lines') for k, place in cells if k > 30]

def test_density():
    found, where = measure()
    passed = [k for k, limit in LIMITS.items() if round(found[k], 2) > limit]
    assert not passed, {k: (found[k], [place for name, place in where if name == k][:20]) for k in passed}

if __name__ == '__main__':
    found, where = measure()
    for k, v in found.items(): print(f'{k}: {v:.2f}, limit {LIMITS[k]}')
    for name, place in where: print(f'  {name} {place}')
