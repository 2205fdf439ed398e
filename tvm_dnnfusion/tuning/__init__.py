"""Tuning: parameters of the templates, and traces of MetaSchedule's, searched by measurement.

tasks      the different blocks of a planned model
space      what the template of a block can be asked for
genetic, bayesian, metaschedule    who asks for the next candidate
proposals  what a search proposes, and the code that it stands for
factory    searches and runners by name
runner     this machine: `child` is the process that measures, `worker` what it does
remote     a device of a session; the virtual phone, by instructions
tuner      the budget over blocks, one committed record per trial
in_model   what was found compared in the whole model; `sides` runs that, here or on a device
exchange   MetaSchedule's JSON database in and out
"""
