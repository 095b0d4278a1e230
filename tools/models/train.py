#!/usr/bin/env python3
"""Trains the small models of tests/data/model and writes what the libraries answer.

    python3 -m venv /tmp/models && /tmp/models/bin/pip install lightgbm==4.7.0 onnx onnxruntime numpy
    /tmp/models/bin/python tools/models/train.py tests/data/model

NAME.txt and NAME.onnx are models; NAME.rows has one row a line, its values, " = ", and the answer's bits as 16 hex digits.
Everything is seeded: the same versions write the same files.
"""

import struct
import sys
from pathlib import Path

import lightgbm as lgb
import numpy as np

INPUTS = 10
OUT = Path(sys.argv[1] if len(sys.argv) > 1 else "tests/data/model")
BASE = {"num_leaves": 8, "min_data_in_leaf": 5, "verbosity": -1, "num_threads": 1, "deterministic": True, "seed": 7, "force_row_wise": True}


def data(seed, missing=0.0, zeros=0.0):
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 1, (600, INPUTS)).round(6)
    y = x[:, 0] * 2 + (x[:, 1] > 0.6) - x[:, 2] * x[:, 3] + rng.normal(0, 0.1, 600)
    x[rng.uniform(0, 1, x.shape) < zeros] = 0.0
    x[rng.uniform(0, 1, x.shape) < missing] = np.nan
    return x, y


def bits(value):
    return struct.pack(">d", float(value)).hex()


def shown(value):
    return repr(float(value))


def thresholds(booster):
    found = []
    for line in booster.model_to_string().splitlines():
        if line.startswith("threshold="):
            found += [float(word) for word in line.split("=")[1].split()]
    return found


def rows(booster, seed, inputs):
    """Plain rows, rows on the thresholds themselves and one step beside them, and rows of odd values."""
    rng = np.random.default_rng(seed)
    edges = np.array(thresholds(booster) or [0.5])
    beside = np.concatenate([edges, np.nextafter(edges, np.inf), np.nextafter(edges, -np.inf)])
    odd = np.array([np.nan, 0.0, -0.0, 1e-36, -1e-36, 1e-34, -1.0, 1.0, 2.0, 33.0, 1e300, -1e300, np.inf, -np.inf, 0.5])
    plain = rng.uniform(-0.2, 1.2, (60, inputs)).round(6)
    return np.concatenate([plain, rng.choice(beside, (60, inputs)), rng.choice(odd, (60, inputs)), np.where(rng.uniform(0, 1, (40, inputs)) < 0.3, np.nan, rng.choice(beside, (40, inputs)))])


def save(name, booster, inputs=INPUTS, answers=True):
    path = OUT / f"{name}.txt"
    booster.save_model(path)
    # Paths and parameters of the run say nothing to a reader, and would differ from machine to machine.
    text = path.read_text()
    head, _, _ = text.partition("\nfeature_importances:")
    path.write_text(head.rstrip("\n") + "\n")
    if not answers:
        return
    read = lgb.Booster(model_file=path)
    asked = rows(read, 11, inputs)
    found = read.predict(asked)
    assert (found == booster.predict(asked)).all(), name
    with open(OUT / f"{name}.rows", "w") as out:
        for row, answer in zip(asked, found):
            out.write(f"{' '.join(map(shown, row))} = {bits(answer)}\n")


def train(parameters, x, y, rounds=12, **more):
    return lgb.train(BASE | parameters, lgb.Dataset(x, y, **more), rounds)


def lightgbm():
    x, y = data(1)
    save("binary", train({"objective": "binary", "num_leaves": 16}, x, y > 1.2, 20))
    save("regression", train({"objective": "regression"}, x, y))
    save("sqrt", train({"objective": "regression", "reg_sqrt": True}, x, y))
    x, y = data(2, missing=0.2)
    save("missing", train({"objective": "binary", "sigmoid": 0.7}, x, y > 1.0))
    x, y = data(3, missing=0.1, zeros=0.3)
    save("zero", train({"objective": "regression", "zero_as_missing": True}, x, y))
    rng = np.random.default_rng(4)
    x, y = data(4, missing=0.1)
    x[:, 0] = rng.integers(0, 70, 600)
    x[:, 1] = rng.integers(0, 9, 600)
    x[rng.uniform(0, 1, 600) < 0.1, 1] = np.nan
    y = (x[:, 0] % 3 == 1) + 0.5 * (x[:, 1] % 2 == 0) + 0.1 * np.nan_to_num(x[:, 2])
    save("category", train({"objective": "binary", "num_leaves": 5, "min_data_per_group": 5, "cat_smooth": 1, "max_cat_threshold": 40}, x[:, :3], y > 0.8, 4, categorical_feature=[0, 1]), inputs=3)
    x, y = data(5)
    save("forest", train({"objective": "regression", "boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.6}, x, y))
    save("dart", train({"objective": "binary", "boosting": "dart", "drop_rate": 0.3}, x, y > 1.0))
    save("stump", train({"objective": "regression", "min_data_in_leaf": 500}, x, y, 2))
    save("multiclass", train({"objective": "multiclass", "num_class": 3}, x, (y * 1.5).clip(0, 2.9).astype(int), 2), answers=False)
    save("poisson", train({"objective": "poisson"}, x, y.clip(0), 2), answers=False)
    save("linear", train({"objective": "regression", "linear_tree": True}, x, y, 2), answers=False)


def onnx():
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(9)

    def weights(name, *shape):
        return numpy_helper.from_array((rng.normal(0, 0.4, shape)).astype(np.float32), name)

    def write(name, nodes, initializers, shape, outputs, opset=13, domains=()):
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
        graph = helper.make_graph(nodes, name, inputs, outputs, initializers)
        opsets = [helper.make_opsetid("", opset)] + [helper.make_opsetid(domain, 3) for domain in domains]
        model = helper.make_model(graph, opset_imports=opsets, producer_name="shipper", ir_version=8)
        onnx.checker.check_model(model)
        path = OUT / f"{name}.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    def answers(name, path, shape, output, pick):
        session = onnxruntime.InferenceSession(str(path))
        asked = rng.uniform(0, 1, (40, INPUTS)).round(6)
        with open(OUT / f"{name}.rows", "w") as out:
            for row in asked:
                found = session.run([output], {"x": row.astype(np.float32).reshape(shape)})[0]
                out.write(f"{' '.join(map(shown, row))} = {bits(pick(found))}\n")

    def tensor(name, shape, kind=TensorProto.FLOAT):
        return helper.make_tensor_value_info(name, kind, shape)

    # Two dense layers, as scikit-learn's and Keras' networks are exported; any number of rows.
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["h1"]),
        helper.make_node("Add", ["h1", "b1"], ["h2"]),
        helper.make_node("Relu", ["h2"], ["h3"]),
        helper.make_node("MatMul", ["h3", "w2"], ["o1"]),
        helper.make_node("Add", ["o1", "b2"], ["o2"]),
        helper.make_node("Softmax", ["o2"], ["p"], axis=1),
    ]
    path = write("dense", nodes, [weights("w1", INPUTS, 8), weights("b1", 8), weights("w2", 8, 2), weights("b2", 2)], ["N", INPUTS], [tensor("p", ["N", 2])])
    answers("dense", path, (1, INPUTS), "p", lambda found: found[0][1])

    # The reference's shape: the ten features as a sequence, both ways through an LSTM, one sigmoid.
    hidden = 8
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        helper.make_node("LSTM", ["t", "w", "r", "b"], ["", "last"], hidden_size=hidden, direction="bidirectional"),
        helper.make_node("Transpose", ["last"], ["l2"], perm=[1, 0, 2]),
        helper.make_node("Reshape", ["l2", "flat"], ["l3"]),
        helper.make_node("MatMul", ["l3", "w2"], ["o1"]),
        helper.make_node("Add", ["o1", "b2"], ["o2"]),
        helper.make_node("Sigmoid", ["o2"], ["p"]),
    ]
    shape = numpy_helper.from_array(np.array([-1, 2 * hidden], dtype=np.int64), "flat")
    path = write("lstm", nodes, [weights("w", 2, 4 * hidden, 1), weights("r", 2, 4 * hidden, hidden), weights("b", 2, 8 * hidden), shape, weights("w2", 2 * hidden, 1), weights("b2", 1)], ["N", INPUTS, 1], [tensor("p", ["N", 1])])
    answers("lstm", path, (1, INPUTS, 1), "p", lambda found: found[0][0])

    # Ensembles as skl2onnx writes them: a label, and the probabilities of both classes.
    def ensemble(name, trees):
        ids, nodes_of, features, values, modes, left, right, miss = [], [], [], [], [], [], [], []
        class_tree, class_node, class_id, class_weight = [], [], [], []
        for tree in range(trees):
            for node in range(3):
                is_leaf = node > 0
                ids.append(tree)
                nodes_of.append(node)
                features.append(0 if is_leaf else int(rng.integers(0, INPUTS)))
                values.append(0.0 if is_leaf else float(np.float32(rng.uniform(0.2, 0.8))))
                modes.append("LEAF" if is_leaf else "BRANCH_LEQ")
                left.append(0 if is_leaf else 1)
                right.append(0 if is_leaf else 2)
                miss.append(0)
            for leaf in (1, 2):
                share = float(np.float32(rng.uniform(0, 1) / trees))
                for label, weight in ((0, 1 / trees - share), (1, share)):
                    class_tree.append(tree)
                    class_node.append(leaf)
                    class_id.append(label)
                    class_weight.append(weight)
        node = helper.make_node(
            "TreeEnsembleClassifier", ["x"], ["label", "p"], domain="ai.onnx.ml", nodes_treeids=ids, nodes_nodeids=nodes_of,
            nodes_featureids=features, nodes_values=values, nodes_modes=modes, nodes_truenodeids=left, nodes_falsenodeids=right,
            nodes_missing_value_tracks_true=miss, class_treeids=class_tree, class_nodeids=class_node, class_ids=class_id,
            class_weights=class_weight, classlabels_int64s=[0, 1], post_transform="NONE",
        )
        path = write(name, [node], [], ["N", INPUTS], [tensor("label", ["N"], TensorProto.INT64), tensor("p", ["N", 2])], domains=["ai.onnx.ml"])
        answers(name, path, (1, INPUTS), "p", lambda found: found[0][1])

    ensemble("trees", 5)
    ensemble("forest40", 40)
    (OUT / "forest40.rows").unlink()


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    lightgbm()
    onnx()
