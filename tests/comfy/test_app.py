"""ComfyUI's page with the pack in Chromium: its nodes are there, a graph runs, nothing is asked of other hosts."""

from __future__ import annotations

import pytest

# the page's format: [id, type, ...]; links are [id, from node, from slot, to node, to slot, type]
WORKFLOW = {
    "last_node_id": 2,
    "last_link_id": 1,
    "nodes": [
        {
            **{"id": 1, "type": "EmptyImage", "pos": [50, 80], "size": [270, 130], "flags": {}, "order": 0, "mode": 0, "inputs": []},
            **{"outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [1]}], "widgets_values": [32, 16, 1, 0x00FF00]},
        },
        {
            **{"id": 2, "type": "PreviewImage", "pos": [400, 80], "size": [220, 250], "flags": {}, "order": 1, "mode": 0, "outputs": []},
            "inputs": [{"name": "images", "type": "IMAGE", "link": 1}],
        },
    ],
    "links": [[1, 1, 0, 2, 0, "IMAGE"]],
    "version": 0.4,
}


@pytest.mark.parametrize("vue", [False, True], ids=["canvas", "nodes2"])
def test_page_runs_a_graph(comfy, open_app, tmp_path, vue):
    own = [name for name in comfy.node_ids() if name.startswith("DiffFAE")]
    app = open_app(vue=vue, node_types=own)
    app.load(WORKFLOW)
    assert app.to_api()["1"]["inputs"] == {"width": 32, "height": 16, "batch_size": 1, "color": 0x00FF00}
    (picture,) = app.queue().images("2")
    assert (picture.size, picture.getpixel((4, 4))) == ((32, 16), (0, 255, 0))
    assert (app.page.locator('[data-node-id="2"]').count() > 0) == vue
    app.screenshot(tmp_path / "page.png")
    assert app.foreign_requests == []
    assert app.errors == []
    assert app.failed_requests == []
