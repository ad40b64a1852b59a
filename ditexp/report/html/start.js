setUpTheme();
setUpCopying();
setUpFilter();
setUpPlots();
setUpTable();
setUpPictures();
applyFilter();
requestAnimationFrame(() => setTimeout(() => performance.mark("ready"))); // after the first paint
