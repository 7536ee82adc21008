"""Ours next to what a user would pick instead, in one run on one text: make bench SIZE=quick, or SIZE=full.

__main__.py   the arguments, the rounds, what is printed and written
text.py       a corpus → one file of lower-cased words, which all systems read
systems.py    each system as a process of its own: its command, and what it says of itself afterwards
measure.py    a command → its wall time and the peak memory of all its processes
blocks.py     quality and kernel time against blocks, without Spark
scale.py      time and memory against words, dimensions, vocabulary and blocks, next to what the model says
costs.py      the model: what each part of a run costs, and what a cluster would take
work.py       how much a run has to do: pairs, groups, bytes
ring.py       an epoch of the ring on machines that nobody here has
singles.py    the kernel alone, on buckets as clusters have them
synthetic.py  a text whose word counts follow Zipf's law
quality.py    vectors → WordSim-353, SimLex-999, analogies
table.py      the runs → medians, spread, ratios, Markdown
"""
