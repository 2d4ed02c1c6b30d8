"""data/tokenize"""
