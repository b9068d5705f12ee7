# %% [markdown]
# # Late interaction in a notebook
# Open this file as a notebook in VS Code, PyCharm, Spyder or, with jupytext, in Jupyter.

# %%
import refcolbert

index = refcolbert.Index.open_or_create("notebook.index")
index.sync(
    [
        {"id": "dates", "text": "strptime turns a text into a date", "metadata": {"year": 2021}},
        {"id": "rows", "text": "csv.reader gives each row of a file as a list", "metadata": {"year": 2024}},
        {"id": "files", "text": "Path.iterdir lists the files of a folder", "metadata": {"year": 2024}},
    ]
)

# %% [markdown]
# A cell shows the answers with the words that matched.

# %%
hits = index.search("how do I parse a date", k=2)
hits

# %% [markdown]
# Each word of the question, and the word that it matched.

# %%
print(hits[0].explain())

# %%
recent = index.search("how do I parse a date", where={"year": {"$gte": 2024}})
print([hit.id for hit in recent])
