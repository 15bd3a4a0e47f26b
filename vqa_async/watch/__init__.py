"""How a run is watched: counters -> one frozen snapshot -> a panel, a plain line, or JSON events.

words, speed    how numbers are said; rates and the time left
snapshot        all that is shown, as one value
panel, plain    a snapshot as lines of a terminal, as one line of a log
events          a snapshot and what happens, as JSON
frame           lines that stay at the bottom of a terminal
display         the observer that looks twice a second and shows it
"""
