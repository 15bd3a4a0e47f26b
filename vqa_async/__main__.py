"""``python -m vqa_async`` is ``vqa-async``."""

from vqa_async.cli import main

if __name__ == "__main__":
    main()
