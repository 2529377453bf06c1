"""The same run on Ray: paths travel to actors, rows come back.

An actor loads the network once and does with each picture what a single process does
(`restorecli.runs.local.restore_item`). The driver hands out the work, counts the tries of a picture
whose worker died, and needs no torch. Why actors: docs/decisions/0009-actors-on-ray.md.
"""
