"""A folder of Parquet files scored by Dask's worker processes, of which one is killed meanwhile. A script:

    python kill_a_worker.py MODEL SOURCE TARGET

Prints how many of the target's files were there when the worker was killed.
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import dask.dataframe as dd
from dask.distributed import Client, LocalCluster

from makemore_pl.tables.score_table import ScoreTable


def main(model: str, source: str, target: str) -> None:
    score = ScoreTable(model)
    killed: list[int] = []
    with (
        LocalCluster(n_workers=3, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        workers = list(client.run(os.getpid).values())

        def kill() -> None:
            while len(done := list(Path(target).glob("*.parquet"))) < 3:
                time.sleep(0.01)
            os.kill(workers[0], signal.SIGKILL)
            killed.append(len(done))

        killer = threading.Thread(target=kill)
        killer.start()
        dd.read_parquet(source).map_partitions(score).to_parquet(target)
        killer.join()
        assert workers[0] not in client.run(os.getpid).values(), "another process took its place"
    print(killed[0])


if __name__ == "__main__":
    main(*sys.argv[1:])
