"""From sources to gathered records: what a builder does before TFDS writes its shards.

Nothing here imports TFDS, so that worker processes start fast.
"""
