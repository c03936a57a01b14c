"Package metadata and requirements come from settings.ini; what nbdev needs stands in pyproject.toml."
from configparser import ConfigParser
from pathlib import Path
from setuptools import setup, find_packages

cfg = ConfigParser(delimiters=['='])
cfg.read(Path(__file__).parent/'settings.ini', encoding='utf-8')
cfg = cfg['DEFAULT']
extra = '_requirements'
setup(version=cfg['version'],
      packages=find_packages(include=['pdd_nb', 'pdd_nb.*']),
      include_package_data=True,
      python_requires='>=' + cfg['min_python'],
      keywords=cfg['keywords'].split(),
      install_requires=cfg['requirements'].split(),
      extras_require={k.removesuffix(extra): v.split() for k, v in cfg.items() if k.endswith(extra)},
      entry_points={'console_scripts': cfg['console_scripts'].split(), 'nbdev': ['pdd_nb=pdd_nb._modidx:d']})
