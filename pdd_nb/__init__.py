import logging

__version__ = "0.1.0"

# torchvision isn't needed, and its absence not worth two remarks at every import
logging.getLogger('transformers.utils.import_utils').addFilter(lambda record: 'requires torchvision' not in record.getMessage())
