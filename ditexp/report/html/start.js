setUpTheme();
setUpCopying();
setUpFilter();
setUpPlots();
setUpTable();
setUpPictures();
applyFilter();
requestAnimationFrame(() => setTimeout(() => performance.mark("ready"))); // once it is painted
