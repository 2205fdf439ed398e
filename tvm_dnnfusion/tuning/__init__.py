"""Tuning: parameters of the templates, and traces of MetaSchedule's, searched by measurement.

tasks      the different blocks of a planned model
space      what the template of a block can be asked for
genetic, bayesian, metaschedule    who asks for the next candidate
runner     local process with a wall limit, or a device
tuner      the budget over blocks, one committed record per trial
exchange   MetaSchedule's JSON database in and out
"""
