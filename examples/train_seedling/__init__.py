"""How the seedling is made: a small model that drives a swarm through surveys, trained on a teacher's traces.

    python -m examples.train_seedling                retrains, sits the exam and writes the model card

`data` makes the tokenizer and the rows (a scripted teacher plays surveys; `synth` is the fast twin of the real
harness), `train` learns them under the engine environment's Python, `evaluate` lets the result drive the real
harness on a real server. Nothing here is imported by the runtime.
"""
