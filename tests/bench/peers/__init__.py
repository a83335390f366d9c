"""Compare predict with other model servers in one run: `python -m tests.bench.peers`.

Every server answers the same products with the same function, in one worker; see `function.py`.
"""
