"""data/filter"""
