"""maxsim-cpu: exact MaxSim in Rust over libxsmm, of documents that another system found."""

import maxsim_cpu
import numpy as np

from tools.bench.peers.protocol import Floats, Job, Many, One, main


def opened(job: Job) -> tuple[One, Many]:
    """The pool in memory."""
    numbers, documents = job.pool()

    def one(q: Floats, k: int) -> list[int]:
        scores = np.asarray(maxsim_cpu.maxsim_scores_variable(q, documents))  # [n_pool]
        best: list[int] = numbers[np.argsort(-scores, kind="stable")[:k]].tolist()
        return best

    return one, lambda queries, k: [one(q, k) for q in queries]


if __name__ == "__main__":
    main(None, opened, "maxsim-cpu")
