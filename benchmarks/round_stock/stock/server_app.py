"""Flower's FedAvg over all nodes; each round's end is a line in a file."""

from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds."""
    config = context.run_config
    nodes, progress = int(config["nodes"]), Path(str(config["progress"]))
    numbers = np.random.default_rng(1).standard_normal(int(config["payload"]) // 4, np.float32)

    def ended(_number: int, _arrays: ArrayRecord) -> MetricRecord:
        with progress.open("a") as file:
            file.write("round\n")
        return MetricRecord()

    strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=nodes, min_available_nodes=nodes)
    strategy.start(grid, ArrayRecord([numbers]), num_rounds=int(config["rounds"]), evaluate_fn=ended)
