"""How fast flowgen is, measured from outside: real worker processes on a fresh embedded server.

python -m benchmarks              the workloads W1 to W11, into docs/performance.md
python -m benchmarks --cliffs     what slows W2 and W3 down, into the same report
"""
